"""The commands of `lovectl keys`."""

import logging
import sys
from typing import Annotated, Any

import typer

from federation.regions import CONTINENTS, Continent
from lovectl import show
from lovectl import stack as stacks
from lovectl.access import running_access
from lovectl.errors import NotRunning

FAILED = 1
ARN_START = "arn:"

keys_app = typer.Typer(help="The customer keys and the data keys.", no_args_is_help=True)


@keys_app.callback()
def keys() -> None:
    """The customer keys (KMS) and the data keys that they wrap."""


@keys_app.command()
def rotate(
    continent: Annotated[
        Continent | None, typer.Option(help="Only this one; by default all seven.")
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new customer key, and wrap by it.")
    ] = False,
    to_key: Annotated[
        str, typer.Option(help="ARN of a customer key to wrap by; needs --continent.")
    ] = "",
    new_data_key: Annotated[
        bool,
        typer.Option("--new-data-key", help="Encrypt what is written from now on with a new one."),
    ] = False,
    name: Annotated[str, typer.Option("--name", help="Of the stack.")] = stacks.DEFAULT_NAME,
    deployed: Annotated[
        str, typer.Option(help="Name of a CloudFormation stack in AWS; without traffic of its own.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Wrap all data keys anew while money is sent, then open old and new documents.

    Without --new-key or --to-key each continent's customer key stays, and its newest key material
    wraps. No document is rewritten: data keys stay what they are.
    """
    if new_key and to_key:
        raise typer.BadParameter("--new-key and --to-key exclude each other")
    if to_key and continent is None:
        raise typer.BadParameter("--to-key needs --continent: each continent has its own key")
    if to_key and not to_key.startswith(ARN_START):
        raise typer.BadParameter(f"--to-key: {to_key!r} is no ARN")
    # Imported here: the stores' libraries take a while.
    from lovectl.key_rotation import Mode, deployed_key_stack, rotate_keys

    chosen: dict[str, Any] = {
        "continents": CONTINENTS if continent is None else (continent,),
        "mode": Mode.NEW_KEY if new_key else Mode.TO_KEY if to_key else Mode.SAME_KEY,
        "to_key": to_key,
        "new_data_key": new_data_key,
    }
    _log_to_stderr()
    if deployed:
        with deployed_key_stack(deployed) as stack:
            rows = rotate_keys(stack, **chosen)
        _show({"mode": chosen["mode"].value, "continents": rows, "verdict": "holds"}, as_json)
        return
    access = running_access(name)
    if access is None:
        raise NotRunning(name)
    from lovectl.keys import rotate_in_traffic

    report = rotate_in_traffic(access, **chosen)
    _show(report, as_json)
    if report["verdict"] != "holds":
        raise typer.Exit(FAILED)


def _show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.print_json(report)
        return
    show.tables.print(show.rotation_table(report))
    for failure in report.get("failures", ()):
        show.notes.print(failure)


def _log_to_stderr() -> None:
    """Audit events are logged to stdout in a function; here that is for the result."""
    for handler in logging.getLogger("audit").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
