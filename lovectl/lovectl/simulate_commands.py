"""The commands `simulate` and `chaos`: break things while money is sent, and give a verdict."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lovectl import show
from lovectl.access import access_or_start
from lovectl.exits import BAD_USAGE, FAILED, fail
from lovectl.faults import Scenario
from lovectl.simulate import COUNT_MIN
from lovectl.simulate import simulate as run_simulation
from lovectl.simulation.backup_routes import backup_routes
from lovectl.simulation.double_spend import PAIRS, PAIRS_MIN, double_spend

SIMULATION_STACK = "simulate"
#: How many transactions `backup-routes` sends in a phase, unless told.
PHASE_COUNT = 210

SeedOption = Annotated[int | None, typer.Option(help="Replays the same plan.")]
ReportOption = Annotated[Path | None, typer.Option(help="Draws an HTML report into this file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    app.command()(simulate)
    app.command()(chaos)


def simulate(
    scenario: Annotated[str | None, typer.Argument(help="What fails; --list names them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All scenarios of the fault model.")] = (
        False
    ),
    listing: Annotated[bool, typer.Option("--list", help="Name them, and do nothing.")] = False,
    count: Annotated[
        int | None,
        typer.Option(
            min=COUNT_MIN,
            help="Transactions to send, when stores are just down; of backup-routes, in each phase.",
        ),
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=PAIRS_MIN, help="Conflicting pairs of double-spend.")
    ] = PAIRS,
    seed: SeedOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Break things while transactions are sent, then judge what is stored, or what is final."""
    from lovectl.chaos import commands as chaos_commands
    from lovectl.chaos.scenarios import SCENARIOS

    if listing:
        if as_json:
            show.print_json(chaos_commands.names_document())
        else:
            show.tables.print(chaos_commands.names_table())
        return
    chosen_seed = _random_seed() if seed is None else seed
    if everything == (scenario is not None):
        fail("name a scenario, or say --all; --list names them", BAD_USAGE)
    drawn = everything or (scenario in SCENARIOS and count is None)
    if report is not None and not drawn:
        fail(f"{scenario} has no HTML report", BAD_USAGE)
    if scenario == Scenario.DOUBLE_SPEND:
        _show(double_spend(pairs=pairs, seed=chosen_seed), show.double_spend_table, as_json)
    elif scenario == Scenario.BACKUP_ROUTES:
        with access_or_start(SIMULATION_STACK) as access:
            routes = backup_routes(
                access, count=count or PHASE_COUNT, seed=chosen_seed, bar=show.bar
            )
        _show(routes, show.routes_table, as_json)
    elif scenario is not None and scenario not in SCENARIOS:
        fail(f"there is no scenario {scenario!r}; --list names them", BAD_USAGE)
    elif count is not None:
        _simulate_stores_down(scenario, count, chosen_seed, as_json)
    else:
        names = [] if scenario is None else [scenario]
        document = chaos_commands.run_scenarios(names, chosen_seed, report)
        if scenario is not None:
            document = {**document, **document["scenarios"][0], "scenario": scenario}
        _show(document, chaos_commands.scenarios_table, as_json)


def chaos(
    minutes: Annotated[float, typer.Option(min=0.5, help="How long.")] = 10,
    seed: SeedOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Random faults at random times, several at once, while money is sent; then the checker looks."""
    from lovectl.chaos import commands as chaos_commands

    chosen_seed = _random_seed() if seed is None else seed
    document = chaos_commands.run_soak(minutes, chosen_seed, report)
    _show(document, chaos_commands.scenarios_table, as_json)


def _simulate_stores_down(scenario: str | None, count: int, seed: int, as_json: bool) -> None:
    """The three plain outages with a number of transactions of the caller's choice."""
    outage = next((one for one in Scenario if one.value == scenario), None)
    if outage is None:
        fail(f"--count is for {', '.join(Scenario)}", BAD_USAGE)
    with access_or_start(SIMULATION_STACK) as access:
        report = run_simulation(access, outage, count=count, seed=seed, bar=show.bar)
    _show(report, show.verdict_table, as_json)


def _show(report: dict[str, Any], table: Callable[[dict[str, Any]], Table], as_json: bool) -> None:
    """Show a report; the exit code says whether its promises hold."""
    if as_json:
        show.print_json(report)
    else:
        show.tables.print(table(report))
        if "history" in report:
            show.tables.print(f"history: {report['history']}")
    if report["verdict"] != "holds":
        raise typer.Exit(FAILED)


def _random_seed() -> int:
    return secrets.randbelow(2**32)
