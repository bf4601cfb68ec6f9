"""The commands beyond the stack and simulations: `send`, `fetch`, `demo`, `reconcile`, `canary`, `load`, `cost`, `keys`, `audit`."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from federation.limits import REQUEST_BATCH_ITEMS_MAX
from federation.regions import CONTINENTS, Continent
from lovectl import audit_commands, registry_commands, show, simulate_commands
from lovectl.access import running_access, started_access
from lovectl.accounts import make_account
from lovectl.canary import CanaryFailed, canary_table, run_canary
from lovectl.client import ApiError
from lovectl.cost import USUAL_TPS, Assumptions, document, load_prices, monthly_bill
from lovectl.demo import demo as run_demo
from lovectl.exits import BAD_USAGE, FAILED, fail
from lovectl.input_lines import BadLine, InputLine, read_input
from lovectl.key_commands import keys_app
from lovectl.reconcile import parked as list_parked
from lovectl.reconcile import reconcile as run_reconcile
from lovectl.sending import (
    RECEIPT_TIMEOUT_S,
    Posting,
    outcome_rows,
    plan,
    plan_lines,
    post_all,
    wait_for_receipts,
)

DEMO_STACK = "demo"
LOAD_STACK = "load"

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    app.command()(send)
    app.command()(fetch)
    app.command()(demo)
    simulate_commands.register(app)
    app.command()(reconcile)
    app.command()(parked)
    app.command()(cost)
    app.command()(registry_commands.rewards)
    app.command()(canary)
    app.command()(load)
    app.add_typer(keys_app, name="keys")
    app.add_typer(registry_commands.app, name="registry")
    app.add_typer(audit_commands.app, name="audit")


def send(
    count: Annotated[int, typer.Option(min=1, help="Transactions to send.")] = 7,
    continent: Annotated[
        Continent | None, typer.Option(help="Home continent; by default all seven in turn.")
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, max=REQUEST_BATCH_ITEMS_MAX, help="Transactions in one request.")
    ] = 1,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", help="JSONL: amount; optionally recipient, nonce, continent, …"),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Seconds to wait for receipts.")
    ] = RECEIPT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Make accounts, sign, post over HTTPS, and wait for the receipts."""
    lines = None if input_file is None else _read_lines(input_file)
    access = running_access()
    if access is None:
        fail("no stack is running: run `lovectl up` first", BAD_USAGE)
    postings: list[Posting]
    if lines is None:
        chosen = CONTINENTS if continent is None else (continent,)
        postings = plan(access.issuer, count, continents=chosen, batch=batch)
    else:
        postings = plan_lines(access.issuer, lines, continent=continent, batch=batch)
    total = sum(len(one.transactions) for one in postings)
    with access.client() as client:
        try:
            with show.bar("sending", total) as progress:
                accepted = post_all(client, postings, progress=progress)
            with show.bar("receipts", total) as progress:
                answers = wait_for_receipts(
                    client, accepted, timeout_s=timeout_s, progress=progress
                )
        except ApiError as error:
            fail(str(error), FAILED)
    rows = outcome_rows(accepted, answers)
    if as_json:
        show.print_json({"transactions": rows})
    else:
        show.tables.print(show.receipts_table(rows, f"{total} transactions"))
    if any(row["status"] != "stored" for row in rows):
        raise typer.Exit(FAILED)


def fetch(
    transaction_id: Annotated[str, typer.Argument(help="64 hex digits; `send --json` shows them.")],
    as_node: Annotated[
        str, typer.Option(help="The delegate that signs the query (RFC 9421).")
    ] = "node-europe",
) -> None:
    """Read a transaction as a full node does: everything that proves it, its content sealed."""
    access = running_access()
    if access is None:
        fail("no stack is running: run `lovectl up` first", BAD_USAGE)
    node = access.nodes.get(as_node)
    if node is None:
        fail(f"there is no node {as_node!r}, but {', '.join(access.nodes)}", BAD_USAGE)
    account = make_account(access.issuer, Continent.EUROPE)
    with access.client() as client:
        try:
            show.print_json(client.fetch_as_node(account, node, transaction_id))
        except ApiError as error:
            fail(str(error), FAILED)


def demo(as_json: JsonOption = False) -> None:
    """Bring a stack up, send 700 transactions from seven continents, break a store, take it down."""
    console = show.notes if as_json else show.tables
    with started_access(DEMO_STACK) as access:
        report = run_demo(access, console)
    if as_json:
        show.print_json(report)
    if not report["kept"]:
        raise typer.Exit(FAILED)


def reconcile(as_json: JsonOption = False) -> None:
    """Do now what reconcile does each minute, leaving nothing out for its age; wait for its end."""
    access = running_access()
    if access is None:
        fail("no stack is running: run `lovectl up` first", BAD_USAGE)
    report = run_reconcile(access)
    if as_json:
        show.print_json(report)
    else:
        show.tables.print(f"reconcile: {report['status']}, {report['seconds']} s")
        for cluster in report["clusters"]:
            show.tables.print(f"{cluster['continent']}: {cluster['outcome']}")
    if report["status"] != "SUCCEEDED":
        raise typer.Exit(FAILED)


def parked(as_json: JsonOption = False) -> None:
    """List what reconcile couldn't settle: poison messages, and copies that can't go home."""
    access = running_access()
    if access is None:
        fail("no stack is running: run `lovectl up` first", BAD_USAGE)
    rows = list_parked(access.stores)
    if as_json:
        show.print_json({"parked": rows})
        return
    for row in rows:
        show.tables.print(f"{row['tier']} {row['kind']} {row['id']}: {row['reason']}")
    if not rows:
        show.tables.print("nothing is parked")


def cost(
    tps: Annotated[
        list[float] | None,
        typer.Option(help="Transactions a second; may be repeated. By default 1, 100 and 10000."),
    ] = None,
    per_request: Annotated[
        int | None,
        typer.Option(
            min=1, max=REQUEST_BATCH_ITEMS_MAX, help="Transactions that a client posts at once."
        ),
    ] = None,
    tier: Annotated[
        str | None,
        typer.Option(help="Atlas tier of all clusters; by default the smallest that takes it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a month costs, from a dated table of list prices and named assumptions."""
    prices, assumed = load_prices(), Assumptions()
    if per_request is not None:
        assumed = msgspec.structs.replace(assumed, transactions_a_request=per_request)
    try:
        bills = [monthly_bill(rate, prices, assumed, tier) for rate in tps or USUAL_TPS]
    except ValueError as error:
        fail(str(error), BAD_USAGE)
    if as_json:
        show.print_json(document(bills, prices, assumed))
        return
    show.tables.print(show.cost_table(bills, prices))
    show.tables.print(show.assumptions_table(assumed))
    show.tables.print(f"Prices: {prices.region}, {prices.as_of}. {prices.note}")


def canary(as_json: JsonOption = False) -> None:
    """Send a canary through every tier of the running stack, and tell how it fared in each."""
    access = running_access()
    if access is None:
        fail("no stack is running: run `lovectl up` first", BAD_USAGE)
    try:
        report = run_canary(access)
    except CanaryFailed as error:
        fail(str(error), FAILED)
    if as_json:
        show.print_json(report)
    else:
        show.tables.print(canary_table(report))
    if report["outcome"] != "ok":
        raise typer.Exit(FAILED)


def load(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the rate is held.")] = 3.0,
    batch: Annotated[
        int, typer.Option(min=1, max=REQUEST_BATCH_ITEMS_MAX, help="Transactions in one request.")
    ] = 10,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Requests a second to hold, after a climb; by default the highest is searched.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the highest rate that a stack of its own holds, go beyond it, let the inbox drain."""
    from lovectl.load import run_load

    with started_access(LOAD_STACK) as access:
        report = run_load(access, minutes, batch, rate, lambda line: show.notes.print(line))
    if as_json:
        show.print_json(report)
    else:
        show.tables.print(show.load_table(report))
    if not report["holds"]:
        raise typer.Exit(FAILED)


def _read_lines(path: Path) -> list[InputLine]:
    try:
        lines = read_input(path)
    except (BadLine, OSError) as error:
        fail(f"{path}: {error}", BAD_USAGE)
    if not lines:
        fail(f"{path}: has no transaction", BAD_USAGE)
    return lines
