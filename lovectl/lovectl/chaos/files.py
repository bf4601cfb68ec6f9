"""Flips a byte of a store's data while the store is stopped, and flips it back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

#: The lowest bit: text stays text, so that nothing but the value tells that it was changed.
MASK: Final = 0x01


class FlippedByte(msgspec.Struct, frozen=True):
    """Where a byte was changed.

    Attributes
    ----------
    offset : int
        Of the byte.
    start : int
        Of `damaged`.
    damaged : bytes
        What it stands in, as it was left.
    """

    path: Path
    offset: int
    start: int
    damaged: bytes


class NothingToCorrupt(Exception):
    """None of the needles lies in the store's files in one piece."""


def corrupted_byte(directory: Path, needles: Sequence[bytes]) -> FlippedByte:
    """Flip a bit in the middle of the first needle that is found in a file of `directory`.

    Raises
    ------
    NothingToCorrupt
    """
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    for needle in needles:
        for path in files:
            start = path.read_bytes().find(needle)
            if start >= 0:
                middle = len(needle) // 2
                damaged = bytearray(needle)
                damaged[middle] ^= MASK
                _put(path, start + middle, damaged[middle])
                return FlippedByte(path, start + middle, start, bytes(damaged))
    raise NothingToCorrupt(f"{directory}: {len(needles)} needles in {len(files)} files")


def restored_byte(flipped: FlippedByte) -> bool:
    """Flip it back, unless the store itself has mended it, or moved it, meanwhile: whether it did."""
    with flipped.path.open("rb") as file:
        file.seek(flipped.start)
        if file.read(len(flipped.damaged)) != flipped.damaged:
            return False
    _put(flipped.path, flipped.offset, flipped.damaged[flipped.offset - flipped.start] ^ MASK)
    return True


def _put(path: Path, offset: int, byte: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([byte]))
