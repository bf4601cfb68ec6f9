"""The delegate registry of one epoch: its document, its digest, and whom it elects (DPoS).

The document is strict JSON (I-JSON, RFC 7493); what is hashed and signed is its canonical form
(JCS, RFC 8785) without `signatures`, so that a signature more doesn't change its name.
"""

from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

import federation_dag
from federation.errors import FederationError, InvalidField
from federation.limits import (
    PPM,
    REGISTRY_BYTES_MAX,
    REGISTRY_CANDIDATES_MAX,
    REGISTRY_DELEGATIONS_MAX,
    REGISTRY_SEATS_MAX,
    SAFE_INTEGER_MAX,
)
from federation.transaction import Hex32, SafeNatural, invalid_field

#: Keeps a registry's signature from being taken for any other signed thing.
REGISTRY_DOMAIN: Final = b"love-registry-v1\0"
#: Of the first registry, which nobody signs: whoever trusts it pins its digest.
NO_PREVIOUS: Final = "0" * 64

Level = Literal["city", "continent", "global"]
LEVELS: Final[tuple[Level, ...]] = ("city", "continent", "global")
Algorithm = Literal["Ed25519", "ML-DSA-65"]
KEY_BYTES: Final[Mapping[str, int]] = {"Ed25519": 32, "ML-DSA-65": 1952}

DelegateId = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,62}$")]
Base64 = Annotated[str, Meta(pattern="^[A-Za-z0-9+/]*={0,2}$")]
Epoch = Annotated[int, Meta(ge=1, le=SAFE_INTEGER_MAX)]
Ppm = Annotated[int, Meta(ge=0, le=PPM)]
Seats = Annotated[int, Meta(ge=0, le=REGISTRY_SEATS_MAX)]


class RegistryError(FederationError):
    """A registry or a change of it is refused; `reason` is a code, the message names the rule.

    `malformed`, `too_large`, `unknown_delegate`, `duplicate`, `no_delegates`, `wrong_epoch`,
    `wrong_previous`, `not_enough_stake`, `bad_evidence`, `not_pinned`, `differs`, `older` or
    `unreadable`.
    """


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who would be a delegate; `stake` is his own, `public_key` base64, `address` host:port."""

    delegate_id: DelegateId
    level: Level
    city: Annotated[str, Meta(min_length=1, max_length=128)]
    address: Annotated[str, Meta(pattern=r"^[^\s/:]{1,253}:[0-9]{1,5}$")]
    algorithm: Algorithm
    public_key: Base64
    stake: SafeNatural


class Delegation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stake that an account lends to a candidate's weight."""

    holder: Hex32
    delegate_id: DelegateId
    stake: Annotated[int, Meta(gt=0, le=SAFE_INTEGER_MAX)]


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Proof of a double vote: two transactions of one (sender, nonce), both signed in `epoch`."""

    delegate_id: DelegateId
    epoch: Epoch
    sender: Hex32
    nonce: SafeNatural
    transaction_ids: tuple[Hex32, Hex32]
    signatures: tuple[Base64, Base64]


class Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that decides who votes in an epoch, and with what weight.

    Attributes
    ----------
    previous : str
        Digest of the registry before; `NO_PREVIOUS` in the first one.
    seats : mapping of level to number
    uptime_ppm : mapping of delegate id to parts per million
        Of the epoch before; who is not in it is new, and counts as full.
    evidence : list of Evidence
        At most one for a delegate; it earns nothing while that stands.
    signatures : list of (delegate_id, base64 signature)
        By delegates of the epoch before, over `signing_bytes`.
    """

    epoch: Epoch
    previous: Hex32
    seats: dict[Level, Seats]
    candidates: Annotated[list[Candidate], Meta(max_length=REGISTRY_CANDIDATES_MAX)]
    delegations: Annotated[list[Delegation], Meta(max_length=REGISTRY_DELEGATIONS_MAX)] = []
    uptime_ppm: dict[DelegateId, Ppm] = {}
    evidence: Annotated[list[Evidence], Meta(max_length=REGISTRY_CANDIDATES_MAX)] = []
    signatures: Annotated[
        list[tuple[DelegateId, Base64]], Meta(max_length=REGISTRY_CANDIDATES_MAX)
    ] = []

    @property
    def canonical(self) -> bytes:
        """What is hashed: the document without its signatures, by JCS (RFC 8785)."""
        document = msgspec.to_builtins(self)
        del document["signatures"]
        return federation_dag.canonicalize(msgspec.json.encode(document))

    @property
    def digest(self) -> str:
        """Its name: SHA-256 of `canonical`, 64 hex digits."""
        return sha256(self.canonical).hexdigest()

    @property
    def signing_bytes(self) -> bytes:
        """What a delegate of the epoch before signs."""
        return REGISTRY_DOMAIN + self.canonical

    def stakes(self) -> dict[str, int]:
        """Each candidate's stake with what is delegated to him."""
        stakes = {one.delegate_id: one.stake for one in self.candidates}
        for one in self.delegations:
            stakes[one.delegate_id] += one.stake
        return stakes

    def elected(self) -> list[Candidate]:
        """The delegates of the epoch: on each level the largest stakes, as many as there are seats.

        Equal stakes are ordered by a hash of epoch and id, so that nobody always wins. Nobody is
        elected without stake. Sorted by delegate id.
        """
        stakes = self.stakes()

        def rank(one: Candidate) -> tuple[int, bytes]:
            tie = sha256(f"{self.epoch}\0{one.delegate_id}".encode()).digest()
            return -stakes[one.delegate_id], tie

        chosen: list[Candidate] = []
        for level in LEVELS:
            ranked = sorted(
                (one for one in self.candidates if one.level == level and stakes[one.delegate_id]),
                key=rank,
            )
            chosen += ranked[: self.seats.get(level, 0)]
        return sorted(chosen, key=lambda one: one.delegate_id)

    def delegates(self) -> list[dict[str, Any]]:
        """The elected as the secret `love/delegates` lists them; `stake` is their whole stake."""
        stakes = self.stakes()
        return [
            {
                "delegate_id": one.delegate_id,
                "level": one.level,
                "city": one.city,
                "address": one.address,
                "algorithm": one.algorithm,
                "public_key": one.public_key,
                "stake": stakes[one.delegate_id],
            }
            for one in self.elected()
        ]

    def voting_keys(self) -> list[tuple[str, str, bytes, int]]:
        """The elected as the Rust core takes them: (delegate_id, algorithm, public key, stake)."""
        return [
            (one["delegate_id"], one["algorithm"], b64decode(one["public_key"]), one["stake"])
            for one in self.delegates()
        ]

    def reward_weights(self) -> dict[str, int]:
        """What each of the elected earns by: stake times uptime; 0 with evidence of a double vote.

        In units of stake times parts per million, so that nothing is rounded before the split.
        """
        guilty = {one.delegate_id for one in self.evidence}
        return {
            name: 0 if name in guilty else stake * self.uptime_ppm.get(name, PPM)
            for name, _, _, stake in self.voting_keys()
        }


def parse_registry(document: bytes) -> Registry:
    """Read one registry strictly.

    Raises
    ------
    RegistryError
        `malformed` (not I-JSON, a field that breaks its rule), `too_large`, `duplicate`,
        `unknown_delegate` or `no_delegates`; the message names field and rule.
    """
    if len(document) > REGISTRY_BYTES_MAX:
        raise RegistryError("too_large", f"registry: is at most {REGISTRY_BYTES_MAX} bytes")
    try:
        # Duplicate members and floats are refused here, which msgspec would let pass.
        registry = msgspec.json.decode(federation_dag.canonicalize(document), type=Registry)
    except federation_dag.CanonicalError as error:
        raise RegistryError("malformed", f"registry: {error}") from None
    except msgspec.ValidationError as error:
        raise _malformed(invalid_field(error)) from None
    check_registry(registry)
    return registry


def check_registry(registry: Registry) -> None:
    """What must hold between the fields of a registry.

    Raises
    ------
    RegistryError
    """
    names = [one.delegate_id for one in registry.candidates]
    _all_different("candidates.delegate_id", names)
    # One key in two hands, or one hand with two names, could vote twice and be proved nothing.
    _all_different("candidates.public_key", [one.public_key for one in registry.candidates])
    pairs = [f"{one.holder} {one.delegate_id}" for one in registry.delegations]
    _all_different("delegations", pairs)
    _all_different("evidence.delegate_id", [one.delegate_id for one in registry.evidence])
    _all_different("signatures", [name for name, _ in registry.signatures])
    for field, used in (
        ("delegations.delegate_id", [one.delegate_id for one in registry.delegations]),
        ("evidence.delegate_id", [one.delegate_id for one in registry.evidence]),
        ("uptime_ppm", list(registry.uptime_ppm)),
    ):
        for name in used:
            if name not in names:
                raise RegistryError("unknown_delegate", f"{field}: {name!r} is no candidate")
    for index, one in enumerate(registry.candidates):
        field = f"candidates[{index}].public_key"
        if len(decoded(field, one.public_key)) != KEY_BYTES[one.algorithm]:
            rule = f"an {one.algorithm} key is {KEY_BYTES[one.algorithm]} bytes"
            raise RegistryError("malformed", f"{field}: {rule}")
    if sum(registry.stakes().values()) > SAFE_INTEGER_MAX:
        raise RegistryError("malformed", f"stake: all of it is at most {SAFE_INTEGER_MAX}")
    if not registry.elected():
        raise RegistryError("no_delegates", "candidates: nobody is elected")


def decoded(field: str, text: str) -> bytes:
    """Base64 (RFC 4648 section 4), or a RegistryError that names the field."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise RegistryError("malformed", f"{field}: is base64 (RFC 4648 section 4)") from None


def encode_registries(registries: Sequence[Registry]) -> bytes:
    """A chain as one JSON array, oldest first."""
    return msgspec.json.encode(registries)


def parse_registries(document: bytes) -> list[Registry]:
    """The inverse of `encode_registries`, each one read strictly.

    Raises
    ------
    RegistryError
    """
    try:
        parts = msgspec.json.decode(document, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise RegistryError("malformed", f"registries: {error}") from None
    return [parse_registry(bytes(part)) for part in parts]


def _all_different(field: str, values: Iterable[str]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise RegistryError("duplicate", f"{field}: {value!r} is there {count} times")


def _malformed(error: InvalidField) -> RegistryError:
    return RegistryError("malformed", f"registry: {error.detail}")
