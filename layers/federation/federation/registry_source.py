"""Reads the delegate registry, verifies its chain from a pinned digest, and keeps the last good one.

It lies in the secret `love/delegates` for the functions, and as public data in a file or in SSM for
everybody else. Neither place is trusted with more than to be there: who can write to it can hold a
change back, but can't make one.
"""

import functools
import time
import zlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from federation.audit import record_refusal
from federation.limits import (
    PARAMETER_CHARACTERS_MAX,
    REGISTRY_BYTES_MAX,
    REGISTRY_REFUSAL_INTERVAL_S,
    SECRET_TTL_S,
)
from federation.registry import (
    Registry,
    RegistryError,
    encode_registries,
    parse_registries,
    parse_registry,
)
from federation.registry_chain import verify_chain
from federation.secrets import read_secret, settings_client

#: Before a place in SSM, such as `ssm:/love/registry/live`; anything else is a file.
SSM: Final = "ssm:"
#: The secret's member that holds the chain, oldest first.
CHAIN_MEMBER: Final = "registries"
REFUSED_REASON: Final = "registry_refused"


class Elected(msgspec.Struct, frozen=True):
    """A verified registry, and the secret whose `delegates` and `epoch` are the registry's."""

    registry: Registry
    secret: dict[str, Any]


class RegistryKeeper:
    """Holds the newest registry that was verified; what is refused is audited.

    Parameters
    ----------
    pin : str
        Digest that the chain begins with.
    source : str
        The stage that reads, for the audit record.
    """

    def __init__(self, pin: str, source: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._pin = pin
        self._source = source
        self._now_s = now_s
        self._held: Registry | None = None
        self._told_s: dict[str, float] = {}

    @property
    def held(self) -> Registry | None:
        """The last one that was verified."""
        return self._held

    def verify(self, registries: Sequence[Registry]) -> Registry:
        """The newest of the chain, which is held from now on.

        Raises
        ------
        RegistryError
            What `verify_chain` raises; `older` if a later one, or another of its epoch, is held.
        """
        found = verify_chain(self._pin, registries)
        held = self._held
        if held is not None and found.epoch <= held.epoch and found.digest != held.digest:
            rule = f"epoch: one of {held.epoch} was verified already, not {found.epoch}"
            raise RegistryError("older", rule)
        self._held = found
        return found

    def refuse(self, error: RegistryError, where: str) -> None:
        """Write the refusal down; the same one at most once in REGISTRY_REFUSAL_INTERVAL_S."""
        now_s, key = self._now_s(), error.reason
        last_s = self._told_s.get(key)
        if last_s is not None and now_s - last_s < REGISTRY_REFUSAL_INTERVAL_S:
            return
        self._told_s[key] = now_s
        record_refusal(
            source=self._source,
            reason=REFUSED_REASON,
            subject=where,
            request_id="",
            detail=f"{error.reason}: {error.detail}",
        )


class SecretKeeper:
    """What the functions use of the secret `love/delegates`: nothing that its registry doesn't say.

    Parameters
    ----------
    name : str
        Of the secret, for the audit record.
    """

    def __init__(self, name: str, keeper: RegistryKeeper) -> None:
        self._name = name
        self._keeper = keeper
        self._seen: Mapping[str, Any] | None = None
        self._good: Elected | None = None

    def take(self, secret: Mapping[str, Any]) -> Elected:
        """The secret, verified; the last good one if this one is refused.

        Raises
        ------
        RegistryError
            It is refused, and none was good before. It has an audit record then too.
        """
        if secret is self._seen and self._good is not None:
            return self._good
        try:
            self._good = self._verified(secret)
        except RegistryError as error:
            self._keeper.refuse(error, self._name)
            if self._good is None:
                raise
        self._seen = secret
        return self._good

    def _verified(self, secret: Mapping[str, Any]) -> Elected:
        chain = secret.get(CHAIN_MEMBER)
        if not isinstance(chain, list):
            raise RegistryError("malformed", f"{CHAIN_MEMBER}: is the chain of signed registries")
        # Parsed as the JSON that it is, so that the same rules hold as for a file.
        registry = verify_chain_of(self._keeper, msgspec.json.encode(chain), secret)
        return Elected(registry, dict(secret))


def verify_chain_of(keeper: RegistryKeeper, chain: bytes, secret: Mapping[str, Any]) -> Registry:
    """The chain's newest registry, if the secret's `epoch` and `delegates` are what it elects.

    Raises
    ------
    RegistryError
        `differs` if they are not, or what `RegistryKeeper.verify` raises.
    """
    registries = parse_registries(chain)
    last = registries[-1] if registries else None
    # Before it is held: a list that was changed must not make a registry that is good "older".
    if last is not None and last.epoch != secret.get("epoch"):
        raise RegistryError("differs", f"epoch: is {last.epoch}, as the registry says")
    if last is not None and _by_id(secret.get("delegates")) != _by_id(last.delegates()):
        raise RegistryError("differs", f"delegates: are those that epoch {last.epoch} elects")
    return keeper.verify(registries)


def read_delegates(name: str, pin: str, source: str) -> Elected:
    """The elected delegates, out of the secret `name`; every function reads them by this.

    Parameters
    ----------
    name : str
        Of the secret `love/delegates`.
    pin : str
        Digest of a trusted registry: a setting of the deployment, not of the secret.
    source : str
        The stage that reads.

    Raises
    ------
    RegistryError
        The secret's delegates are not what 2/3 of the stake before have signed.
    botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError
        The secret can't be read and was never read before.
    """
    return _secret_keeper(name, pin, source).take(read_secret(name))


def load_registry(place: str, pin: str, source: str, ttl_s: float = SECRET_TTL_S) -> Registry:
    """The registry that lies at `place`, at most `ttl_s` old; the last good one if it is refused.

    Parameters
    ----------
    place : str
        A file's path, or `ssm:` and a prefix of parameters.

    Raises
    ------
    RegistryError
        It is refused or can't be read, and none was good before.
    """
    return _place_keeper(place, pin, source).current(ttl_s)


class PlaceKeeper:
    """The registry at one place, read again after a while.

    Parameters
    ----------
    read : callable
        Gives the chain; raises RegistryError.
    """

    def __init__(
        self,
        place: str,
        read: Callable[[], Sequence[Registry]],
        keeper: RegistryKeeper,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._read = read
        self._keeper = keeper
        self._now_s = now_s
        self._read_at_s: float | None = None

    def current(self, ttl_s: float) -> Registry:
        """At most `ttl_s` old, or the last good one.

        Raises
        ------
        RegistryError
        """
        held, now_s = self._keeper.held, self._now_s()
        fresh = self._read_at_s is not None and now_s - self._read_at_s < ttl_s
        if held is not None and fresh:
            return held
        try:
            held = self._keeper.verify(self._read())
        except RegistryError as error:
            self._keeper.refuse(error, self._place)
            if held is None:
                raise
        self._read_at_s = now_s
        return held


def read_file(path: Path) -> list[Registry]:
    """The chain in a file: a JSON array, oldest first.

    Raises
    ------
    RegistryError
        `unreadable`, or what `parse_registry` raises.
    """
    try:
        document = path.read_bytes()
    except OSError as error:
        raise RegistryError("unreadable", f"{path}: {error.strerror}") from None
    return parse_registries(document)


def write_file(path: Path, registries: Sequence[Registry]) -> None:
    """Write the chain; a reader sees the old file or the new one, nothing between."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(encode_registries(registries))
    part.replace(path)


def to_parameters(prefix: str, registry: Registry) -> dict[str, str]:
    """Name and value of the parameters that one registry is written to.

    It is compressed (zlib, RFC 1950), in base64, and cut into standard parameters' 4 KB: `prefix`,
    then epoch, then `part-of-parts`, such as `/love/registry/live/2/1-of-2`.
    """
    text = b64encode(zlib.compress(msgspec.json.encode(registry))).decode()
    starts = range(0, len(text), PARAMETER_CHARACTERS_MAX)
    return {
        f"{prefix}/{registry.epoch}/{n}-of-{len(starts)}": text[at : at + PARAMETER_CHARACTERS_MAX]
        for n, at in enumerate(starts, 1)
    }


def from_parameters(parameters: Mapping[str, str]) -> list[Registry]:
    """The inverse for all epochs; one of which a part is missing is not there yet.

    Raises
    ------
    RegistryError
        `malformed`, `too_large`, or what `parse_registry` raises.
    """
    epochs: dict[int, dict[int, str]] = defaultdict(dict)
    counts: dict[int, int] = {}
    for name, value in parameters.items():
        try:
            epoch, part = name.rsplit("/", 2)[1:]
            n, _, count = part.partition("-of-")
            epochs[int(epoch)][int(n)] = value
            counts[int(epoch)] = int(count)
        except ValueError:
            raise RegistryError("malformed", f"{name}: ends in EPOCH/N-of-COUNT") from None
    return [
        parse_registry(_inflated(epoch, "".join(parts[n] for n in sorted(parts))))
        for epoch, parts in sorted(epochs.items())
        if len(parts) == counts[epoch]
    ]


def read_parameters(client: Any, prefix: str) -> list[Registry]:
    """The chain under a prefix of SSM parameters; `client` is a boto3 client of SSM.

    Raises
    ------
    RegistryError
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        pages = client.get_paginator("get_parameters_by_path").paginate(Path=prefix, Recursive=True)
        found = {one["Name"]: one["Value"] for page in pages for one in page["Parameters"]}
    except (BotoCoreError, ClientError) as error:
        raise RegistryError("unreadable", f"{SSM}{prefix}: {error}") from error
    return from_parameters(found)


def write_parameters(client: Any, prefix: str, registry: Registry) -> None:
    """Publish one registry; an epoch that is there already stays."""
    for name, value in to_parameters(prefix, registry).items():
        try:
            client.put_parameter(Name=name, Value=value, Type="String")
        except client.exceptions.ParameterAlreadyExists:
            continue


def _inflated(epoch: int, text: str) -> bytes:
    try:
        inflate = zlib.decompressobj()
        document = inflate.decompress(b64decode(text, validate=True), REGISTRY_BYTES_MAX)
    except (Base64Error, ValueError, zlib.error) as error:
        raise RegistryError("malformed", f"registry of epoch {epoch}: {error}") from None
    if not inflate.eof:
        rule = f"is at most {REGISTRY_BYTES_MAX} bytes, and whole"
        raise RegistryError("too_large", f"registry of epoch {epoch}: {rule}")
    return document


def _by_id(delegates: Any) -> Any:
    """The order of the list means nothing; what is no such list differs from every one."""
    try:
        return sorted(delegates, key=lambda one: one["delegate_id"])
    except (TypeError, KeyError):
        return None


@functools.cache
def _secret_keeper(name: str, pin: str, source: str) -> SecretKeeper:
    return SecretKeeper(name, RegistryKeeper(pin, source))


@functools.cache
def _place_keeper(place: str, pin: str, source: str) -> PlaceKeeper:
    def read() -> list[Registry]:
        if place.startswith(SSM):
            return read_parameters(settings_client("ssm"), place.removeprefix(SSM))
        return read_file(Path(place))

    return PlaceKeeper(place, read, RegistryKeeper(pin, source))
