"""Inputs of signatures, as Python libraries take them."""

from collections.abc import Sequence
from typing import NamedTuple


class Signed(NamedTuple):
    """A message with what is needed to check it."""

    public_key: bytes
    message: bytes
    signature: bytes


def signed_of(frames: Sequence[bytes]) -> list[Signed]:
    """Frames of (public key, message, signature), three by three."""
    return [Signed(*frames[at : at + 3]) for at in range(0, len(frames), 3)]
