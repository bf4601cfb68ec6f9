"""Reads the lines of `lovectl send --input`: one unsigned transaction each, checked before any is sent."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

import federation_dag
from federation.limits import SAFE_INTEGER_MAX
from federation.regions import Continent
from federation.transaction import Hex32, ObjectIds, Position, SafeNatural


class InputLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line: the members of a transaction that a user may choose; a fresh account signs it.

    Attributes
    ----------
    amount : int
        In milli-LOVE; the only member that must be given.
    recipient : str, optional
        An account id, 64 hex digits; by default another fresh account.
    nonce : int, optional
        By default counted up for each account.
    continent : str, optional
        The sender's home continent; by default that of `--continent`, else each in turn.
    position, reads, writes, content
        As in a transaction; by default a city of the continent, no objects, no members but a salt.
    """

    amount: Annotated[int, Meta(gt=0, le=SAFE_INTEGER_MAX)]
    recipient: Hex32 | None = None
    nonce: SafeNatural | None = None
    continent: Continent | None = None
    position: Position | None = None
    reads: ObjectIds = []
    writes: ObjectIds = []
    content: dict[str, Any] = {}


class BadLine(ValueError):
    """A line can't become a transaction; the message names line, field and rule."""

    def __init__(self, number: int, field: str, rule: str) -> None:
        super().__init__(f"line {number}: {field}: {rule}" if field else f"line {number}: {rule}")
        self.number = number
        self.field = field
        self.rule = rule


def read_input(path: Path) -> list[InputLine]:
    """All lines of the file, blank ones left out.

    Raises
    ------
    BadLine
        At the first line that is not a JSON object of the known members.
    OSError
        The file can't be read.
    """
    lines = path.read_bytes().splitlines()
    return [_parsed(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _parsed(number: int, line: bytes) -> InputLine:
    try:
        canonical = federation_dag.canonicalize(line)
    except federation_dag.CanonicalError as error:
        raise BadLine(number, error.path.strip("/").replace("/", "."), error.rule) from None
    try:
        return msgspec.json.decode(canonical, type=InputLine)
    except msgspec.ValidationError as error:
        rule, _, place = str(error).partition(" - at `")
        field = place.rstrip("`").removeprefix("$").lstrip(".")
        for start in ("Object missing required field `", "Object contains unknown field `"):
            if rule.startswith(start):
                name = rule.removeprefix(start).rstrip("`")
                field = f"{field}.{name}" if field else name
                rule = "is required" if "missing" in start else "is not a known field"
        raise BadLine(number, field, rule) from None
