"""Typed settings out of the environment, checked once at start-up, all faults in one message."""

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from federation.errors import SettingsError

SettingsT = TypeVar("SettingsT", bound=msgspec.Struct)
First = TypeVar("First")
Second = TypeVar("Second")


def load_settings(
    model: type[SettingsT], environment: Mapping[str, str] | None = None
) -> SettingsT:
    """Read the fields of `model` from upper-case environment variables.

    Parameters
    ----------
    model : type[msgspec.Struct]
        Field `inbox_queue_url` is read from `INBOX_QUEUE_URL`. Fields with a default may be absent.
    environment : Mapping[str, str], optional
        By default `os.environ`.

    Raises
    ------
    SettingsError
        Names every missing variable and every malformed value.

    Examples
    --------
    >>> class Settings(msgspec.Struct, frozen=True):
    ...     tier: str
    ...     timeout_ms: int = 100
    >>> load_settings(Settings, {"TIER": "atlas", "TIMEOUT_MS": "80"})
    Settings(tier='atlas', timeout_ms=80)
    """
    source = os.environ if environment is None else environment
    problems: list[str] = []
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(model):
        variable = field.name.upper()
        text = source.get(variable, "")
        if text == "":
            if field.required:
                problems.append(f"{variable} is missing")
            continue
        try:
            values[field.name] = msgspec.convert(text, field.type, strict=False)
        except msgspec.ValidationError as error:
            problems.append(f"{variable} {error}")
    if problems:
        raise SettingsError(problems)
    return model(**values)


def both(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Load two groups of settings; what both lack is said in one message.

    Raises
    ------
    SettingsError
        Names the problems of the first, then those of the second.
    """
    try:
        loaded = first()
    except SettingsError as error:
        try:
            second()
        except SettingsError as another:
            raise SettingsError(error.problems + another.problems) from None
        raise
    return loaded, second()
