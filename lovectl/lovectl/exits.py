"""How a command ends that can't do what it was asked for."""

import sys
from typing import Final, NoReturn

import typer
from rich.console import Console

FAILED: Final = 1
BAD_USAGE: Final = 2


def fail(message: str, code: int) -> NoReturn:
    """Say why on standard error, and end the program.

    Raises
    ------
    typer.Exit
        With `code`.
    """
    Console(file=sys.stderr, highlight=False).print(f"[red]lovectl:[/] {message}")
    raise typer.Exit(code)
