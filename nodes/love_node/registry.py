"""The delegates that vote, out of the signed registry: a node believes no list that 2/3 haven't signed."""

from pathlib import Path

import msgspec

from federation.registry import Registry, RegistryError, parse_registries
from federation.registry_chain import verify_chain
from love_node.config import NodeConfig, PublicDelegate
from love_node.errors import BadConfig


def with_registry(config: NodeConfig) -> NodeConfig:
    """The configuration with epoch and delegates as the verified registry has them.

    Where a delegate is reached may differ from place to place: an address of `delegates_public` goes
    before the registry's. A configuration without `registry_file` stays as it is.

    Raises
    ------
    BadConfig
        The registry can't be read or isn't signed, or it elects this delegate with another key.
    """
    if config.registry_file is None:
        return config
    registry = _verified(config.registry_file, config.registry_pin)
    addresses = {one.delegate_id: one.address for one in config.delegates_public}
    rows = msgspec.convert(registry.delegates(), list[PublicDelegate])
    delegates = tuple(
        msgspec.structs.replace(one, address=addresses.get(one.delegate_id, one.address))
        for one in rows
    )
    for mine in delegates:
        if mine.delegate_id == config.delegate_id and (mine.level, mine.algorithm) != (
            config.level,
            config.algorithm,
        ):
            raise BadConfig(
                f"level, algorithm: the registry elects {config.delegate_id} as {mine.level} with "
                f"{mine.algorithm}, not as {config.level} with {config.algorithm}"
            )
    return msgspec.structs.replace(config, epoch=registry.epoch, delegates_public=delegates)


def _verified(file: Path, pin: str) -> Registry:
    try:
        return verify_chain(pin, parse_registries(file.read_bytes()))
    except OSError as error:
        raise BadConfig(f"registry_file {file}: {error.strerror}") from None
    except RegistryError as error:
        raise BadConfig(f"registry_file {file}: {error.reason}: {error.detail}") from None
