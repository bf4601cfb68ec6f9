"""The commands beyond the stack: `send`, `fetch`, `demo`, `simulate`, `chaos`, `cost`, `keys`, `audit`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console

from federation.limits import REQUEST_BATCH_ITEMS_MAX
from federation.regions import CONTINENTS, Continent
from lovectl import audit_commands, show
from lovectl.access import Access, running_access, started_access
from lovectl.accounts import make_account
from lovectl.client import ApiError
from lovectl.cost import USUAL_TPS, Assumptions, document, load_prices, monthly_bill
from lovectl.demo import demo as run_demo
from lovectl.faults import Scenario
from lovectl.input_lines import BadLine, InputLine, read_input
from lovectl.key_commands import keys_app
from lovectl.sending import (
    RECEIPT_TIMEOUT_S,
    Posting,
    outcome_rows,
    plan,
    plan_lines,
    post_all,
    wait_for_receipts,
)
from lovectl.simulate import COUNT_MIN
from lovectl.simulate import simulate as run_simulation

FAILED = 1
BAD_USAGE = 2
DEMO_STACK = "demo"
SIMULATION_STACK = "simulate"

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    app.command()(send)
    app.command()(fetch)
    app.command()(demo)
    app.command()(simulate)
    app.command()(chaos)
    app.command()(cost)
    app.add_typer(keys_app, name="keys")
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
        _fail("no stack is running: run `lovectl up` first", BAD_USAGE)
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
            _fail(str(error), FAILED)
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
        _fail("no stack is running: run `lovectl up` first", BAD_USAGE)
    node = access.nodes.get(as_node)
    if node is None:
        _fail(f"there is no node {as_node!r}, but {', '.join(access.nodes)}", BAD_USAGE)
    account = make_account(access.issuer, Continent.EUROPE)
    with access.client() as client:
        try:
            show.print_json(client.fetch_as_node(account, node, transaction_id))
        except ApiError as error:
            _fail(str(error), FAILED)


def demo(as_json: JsonOption = False) -> None:
    """Bring a stack up, send 700 transactions from seven continents, break a store, take it down."""
    console = show.notes if as_json else show.tables
    with started_access(DEMO_STACK) as access:
        report = run_demo(access, console)
    if as_json:
        show.print_json(report)
    if not report["kept"]:
        raise typer.Exit(FAILED)


def simulate(
    scenario: Annotated[str | None, typer.Argument(help="What fails; --list names them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All scenarios of the fault model.")] = (
        False
    ),
    listing: Annotated[bool, typer.Option("--list", help="Name them, and do nothing.")] = False,
    count: Annotated[
        int | None,
        typer.Option(min=COUNT_MIN, help="Transactions to send, when stores are just down."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Replays the same plan.")] = None,
    report: Annotated[Path | None, typer.Option(help="Draws an HTML report into this file.")] = (
        None
    ),
    as_json: JsonOption = False,
) -> None:
    """Break things while sending, then compare what was accepted with what is stored."""
    from lovectl.chaos import commands as chaos_commands
    from lovectl.chaos.scenarios import SCENARIOS

    if listing:
        if as_json:
            show.print_json(chaos_commands.names_document())
        else:
            show.tables.print(chaos_commands.names_table())
        return
    if everything == (scenario is not None):
        _fail("name a scenario, or say --all; --list names them", BAD_USAGE)
    if scenario is not None and scenario not in SCENARIOS:
        _fail(f"there is no scenario {scenario!r}; --list names them", BAD_USAGE)
    chosen_seed = _random_seed() if seed is None else seed
    if count is not None:
        _simulate_stores_down(scenario, count, chosen_seed, as_json)
        return
    names = [] if scenario is None else [scenario]
    document = chaos_commands.run_scenarios(names, chosen_seed, report)
    if scenario is not None:
        document = {**document, **document["scenarios"][0], "scenario": scenario}
    _show_chaos(document, as_json)


def chaos(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long.")] = 10,
    seed: Annotated[int | None, typer.Option(help="Replays the same faults.")] = None,
    report: Annotated[Path | None, typer.Option(help="Draws an HTML report into this file.")] = (
        None
    ),
    as_json: JsonOption = False,
) -> None:
    """Random faults at random times, several at once, while money is sent; then the checker looks."""
    from lovectl.chaos import commands as chaos_commands

    chosen_seed = _random_seed() if seed is None else seed
    _show_chaos(chaos_commands.run_soak(minutes, chosen_seed, report), as_json)


def _show_chaos(document: dict[str, Any], as_json: bool) -> None:
    from lovectl.chaos import commands as chaos_commands

    if as_json:
        show.print_json(document)
    else:
        show.tables.print(chaos_commands.scenarios_table(document))
        show.tables.print(f"history: {document['history']}")
    if document["verdict"] != "holds":
        raise typer.Exit(FAILED)


def _simulate_stores_down(scenario: str | None, count: int, seed: int, as_json: bool) -> None:
    """The three plain outages with a number of transactions of the caller's choice."""
    outage = next((one for one in Scenario if one.value == scenario), None)
    if outage is None:
        _fail(f"--count is for {', '.join(Scenario)}", BAD_USAGE)
    with _access_or_start() as access:
        report = run_simulation(access, outage, count=count, seed=seed, bar=show.bar)
    if as_json:
        show.print_json(report)
    else:
        show.tables.print(show.verdict_table(report))
    if report["verdict"] != "holds":
        raise typer.Exit(FAILED)


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
        _fail(str(error), BAD_USAGE)
    if as_json:
        show.print_json(document(bills, prices, assumed))
        return
    show.tables.print(show.cost_table(bills, prices))
    show.tables.print(show.assumptions_table(assumed))
    show.tables.print(f"Prices: {prices.region}, {prices.as_of}. {prices.note}")


@contextmanager
def _access_or_start() -> Iterator[Access]:
    """The stack that runs already, or one of its own for as long as the block lasts."""
    access = running_access()
    if access is not None:
        yield access
        return
    with started_access(SIMULATION_STACK) as own:
        yield own


def _read_lines(path: Path) -> list[InputLine]:
    try:
        lines = read_input(path)
    except (BadLine, OSError) as error:
        _fail(f"{path}: {error}", BAD_USAGE)
    if not lines:
        _fail(f"{path}: has no transaction", BAD_USAGE)
    return lines


def _random_seed() -> int:
    import secrets

    return secrets.randbelow(2**32)


def _fail(message: str, code: int) -> NoReturn:
    Console(file=sys.stderr, highlight=False).print(f"[red]lovectl:[/] {message}")
    raise typer.Exit(code)
