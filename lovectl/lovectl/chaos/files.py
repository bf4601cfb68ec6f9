"""Flips a byte of a store's data while the store is stopped, and flips it back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

#: The lowest bit: text stays text, so that nothing but the value tells that it was changed.
MASK: Final = 0x01


class FlippedByte(msgspec.Struct, frozen=True):
    """Where a byte was changed."""

    path: Path
    offset: int


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
            offset = path.read_bytes().find(needle)
            if offset >= 0:
                flipped = FlippedByte(path, offset + len(needle) // 2)
                _flip(flipped)
                return flipped
    raise NothingToCorrupt(f"{directory}: {len(needles)} needles in {len(files)} files")


def restored_byte(flipped: FlippedByte) -> None:
    """Flip it back."""
    _flip(flipped)


def _flip(at: FlippedByte) -> None:
    with at.path.open("r+b") as file:
        file.seek(at.offset)
        byte = file.read(1)[0]
        file.seek(at.offset)
        file.write(bytes([byte ^ MASK]))
