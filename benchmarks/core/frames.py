"""Files of byte strings that Python writes and Python and Rust read: each with its length in front."""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_LENGTH: Final = struct.Struct("<I")


def write_frames(file: Path, frames: Iterable[bytes]) -> None:
    """Write each as its length (32 bits, little-endian) and its bytes."""
    with file.open("wb") as out:
        for frame in frames:
            out.write(_LENGTH.pack(len(frame)))
            out.write(frame)


def read_frames(file: Path) -> Iterator[bytes]:
    """What `write_frames` wrote, in order."""
    data = file.read_bytes()
    at = 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        yield data[at : at + length]
        at += length
