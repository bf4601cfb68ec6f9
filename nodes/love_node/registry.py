"""The delegates that vote, out of the signed registry: a node believes no list that 2/3 haven't signed."""

from base64 import b64decode

import msgspec

from federation.registry import RegistryError
from federation.registry_source import load_registry
from love_node.config import NodeConfig, PublicDelegate, load_key
from love_node.errors import BadConfig


def with_registry(config: NodeConfig) -> NodeConfig:
    """The configuration with epoch and delegates as the verified registry has them.

    Where a delegate is reached may differ from place to place: an address of `delegates_public` goes
    before the registry's. A configuration without `registry` stays as it is.

    Raises
    ------
    BadConfig
        The registry can't be read or isn't signed, or it elects this delegate with another key or level.
    """
    if not config.registry:
        return config
    try:
        registry = load_registry(config.registry, config.registry_pin, config.delegate_id)
    except RegistryError as error:
        raise BadConfig(f"registry {config.registry}: {error.reason}: {error.detail}") from None
    addresses = {one.delegate_id: one.address for one in config.delegates_public}
    rows = msgspec.convert(registry.delegates(), list[PublicDelegate])
    delegates = tuple(
        msgspec.structs.replace(one, address=addresses.get(one.delegate_id, one.address))
        for one in rows
    )
    for mine in delegates:
        if mine.delegate_id == config.delegate_id:
            _check_own(config, mine)
    return msgspec.structs.replace(config, epoch=registry.epoch, delegates_public=delegates)


def _check_own(config: NodeConfig, mine: PublicDelegate) -> None:
    """A vote by another key, or for another level, than was elected would count for nothing."""
    if (mine.level, mine.algorithm) != (config.level, config.algorithm):
        raise BadConfig(
            f"level, algorithm: the registry elects {config.delegate_id} as {mine.level} with "
            f"{mine.algorithm}, not as {config.level} with {config.algorithm}"
        )
    if b64decode(mine.public_key) != load_key(config).public_key().public_bytes_raw():
        raise BadConfig(
            f"private_key_file {config.private_key_file}: the registry elects "
            f"{config.delegate_id} with another key"
        )
