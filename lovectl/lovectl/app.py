"""The program `lovectl`: one command a function, results on stdout, progress on stderr."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lovectl import stack as stacks
from lovectl.compose_keys import DEFAULT_DIRECTORY, make_keys
from lovectl.errors import AlreadyRunning, NotRunning, StackError
from lovectl.guardian import release_all
from lovectl.state import load_state

FAILED = 1

app = typer.Typer(
    help="The local stack of the Love Currency Federation, and money through it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

NameOption = Annotated[str, typer.Option("--name", help="Several stacks may run side by side.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

_errors = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command()
def up(name: NameOption = stacks.DEFAULT_NAME, as_json: JsonOption = False) -> None:
    """Start every server, deploy template.yaml, and print the API's URL."""
    try:
        stacks.up(name)
        release_all()
    except AlreadyRunning:
        if stacks.find(name) is None:
            raise
        _errors.print(f"stack {name!r} is running already")
    _show(stacks.status(name), as_json)


@app.command()
def down(name: NameOption = stacks.DEFAULT_NAME, as_json: JsonOption = False) -> None:
    """Stop a stack's servers; its logs stay, its data and keys go."""
    state = load_state(name)
    if state is None:
        raise NotRunning(name)
    stacks.take_down(state)
    if as_json:
        print(json.dumps({"name": name, "state": "down"}))
    else:
        _errors.print(f"stack {name!r} is down")


@app.command()
def status(name: NameOption = stacks.DEFAULT_NAME, as_json: JsonOption = False) -> None:
    """Tell which servers and proxies of a stack are up."""
    found = stacks.status(name)
    _show(found, as_json)
    if found["state"] != "up":
        raise typer.Exit(FAILED)


@app.command()
def compose_keys(
    directory: Annotated[
        Path, typer.Argument(help="Made if need be; LOVE_KEYS tells compose.yaml of another.")
    ] = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Make the keys, certificates and settings that compose.yaml mounts, once."""
    services = make_keys(directory)
    if as_json:
        print(json.dumps({"directory": str(directory), "services": services}))
    else:
        _errors.print(f"{directory} has what {len(services)} services need; keep it to yourself")


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    table = Table("server", "state", "through its proxy", title=f"stack {found['name']}")
    for server, state in found["servers"].items():
        table.add_row(server, state, found["proxies"].get(server, ""))
    for proxy, state in found["proxies"].items():
        if proxy not in found["servers"]:
            table.add_row(f"{proxy} (local AWS)", "", state)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"API  {found['api_url']}\nCA   {found['ca_file']}\nlogs {found['logs']}")


def main() -> None:
    """Run the command line; an error that we know is one message, not a stack trace."""
    # So that what was started is stopped, as on Ctrl-C; SIGINT too, which a shell's background
    # jobs inherit as ignored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from lovectl.commands import register
    except ImportError as error:  # the commands that use a stack need every package
        _errors.print(f"[yellow]send, demo and simulate are not there:[/] {error}")
    else:
        register(app)
    try:
        app()
    except StackError as error:
        _errors.print(f"[red]lovectl:[/] {error}", markup=True)
        sys.exit(FAILED)
