"""The commands of `lovectl registry`, and `lovectl rewards`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from federation.registry import Registry, RegistryError, parse_registry
from federation.registry_chain import QUORUM, signed_stake, verify_chain
from federation.registry_source import read_file
from lovectl import show
from lovectl import stack as stacks
from lovectl.errors import NotRunning, StackError
from lovectl.guardian import release_all
from lovectl.registry_changes import (
    next_registry,
    parse_candidate,
    parse_delegation,
    parse_seats,
)

app = typer.Typer(help="The delegate registry: who votes, with what stake.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
NameOption = Annotated[str, typer.Option("--name", help="Of the stack.")]
ProposalArgument = Annotated[Path, typer.Argument(help="File of a proposed registry.")]


@app.callback()
def registry() -> None:
    """The delegate registry; a change needs signatures worth 2/3 of the stake in force."""


@app.command("show")
def show_registry(name: NameOption = stacks.DEFAULT_NAME, as_json: JsonOption = False) -> None:
    """The registry in force, verified, and whom it elects."""
    from lovectl.registry_stack import current

    with _refusals():
        found = current(_stack(name))
    _print(found, as_json)


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Option(help="A chain (JSON array); by default the stack's secret.")
    ] = None,
    pin: Annotated[
        str, typer.Option(help="Digest of the registry that is trusted; needed with --file.")
    ] = "",
    name: NameOption = stacks.DEFAULT_NAME,
    as_json: JsonOption = False,
) -> None:
    """Check every link of the chain from the pinned registry on; fails where one doesn't hold."""
    from lovectl.registry_stack import read_chain

    if file is not None and not pin:
        raise typer.BadParameter("--file needs --pin: a file can't say itself what to trust")
    with _refusals():
        if file is not None:
            chain = read_file(file)
        else:
            stack = _stack(name)
            chain, pin = read_chain(stack), pin or stack.state.registry_pin
        last = verify_chain(pin, chain)
    report = {"verdict": "holds", "pin": pin, "epoch": last.epoch, "digest": last.digest}
    if as_json:
        show.print_json(report)
    else:
        show.tables.print(f"epoch {last.epoch} follows from {pin}: {last.digest}")


@app.command()
def propose(
    output: Annotated[Path, typer.Option("--output", help="Where the proposal is written.")],
    add: Annotated[
        list[Path] | None, typer.Option(help="JSON file of a candidate; replaces one of its id.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Id of a candidate.")] = None,
    delegate: Annotated[list[str] | None, typer.Option(help="HOLDER:DELEGATE:STAKE")] = None,
    undelegate: Annotated[list[str] | None, typer.Option(help="HOLDER:DELEGATE:STAKE")] = None,
    seats: Annotated[list[str] | None, typer.Option(help="LEVEL=SEATS")] = None,
    next_epoch: Annotated[
        bool,
        typer.Option("--next-epoch", help="With uptime and evidence of the epoch that ends."),
    ] = False,
    name: NameOption = stacks.DEFAULT_NAME,
    as_json: JsonOption = False,
) -> None:
    """Write the next registry, without signatures."""
    from lovectl.registry_stack import current

    stack = _stack(name)
    with _refusals():
        old = current(stack)
        new = next_registry(
            old,
            add=[parse_candidate(path.read_bytes()) for path in add or ()],
            remove=remove or (),
            delegate=[parse_delegation(text) for text in delegate or ()],
            undelegate=[parse_delegation(text) for text in undelegate or ()],
            seats={k: v for text in seats or () for k, v in parse_seats(text).items()},
            **(_of_epoch(stack, old) if next_epoch else {}),
        )
        _write(output, new)
    _print(new, as_json)


@app.command()
def sign(
    proposal: ProposalArgument,
    node: Annotated[
        list[str] | None, typer.Option(help="A node of the local stack; by default all elected.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key", help="A delegate's private key (PEM); needs --as.")
    ] = None,
    delegate_id: Annotated[str, typer.Option("--as", help="Whose key it is.")] = "",
    name: NameOption = stacks.DEFAULT_NAME,
    as_json: JsonOption = False,
) -> None:
    """Add signatures to a proposal, by key files of nodes."""
    from lovectl.access import access_to
    from lovectl.registry_stack import current, load_signing_key
    from lovectl.registry_stack import sign as sign_registry

    if (key_file is None) != (not delegate_id):
        raise typer.BadParameter("--key and --as belong together")
    with _refusals():
        new = parse_registry(proposal.read_bytes())
        if key_file is not None:
            new = sign_registry(new, [(delegate_id, load_signing_key(key_file))])
            _write(proposal, new)
            _print(new, as_json)
            return
        stack = _stack(name)
        old = current(stack)
        nodes = access_to(stack).nodes
        chosen = node or [one.delegate_id for one in old.elected() if one.delegate_id in nodes]
        for each in chosen:
            if each not in nodes:
                raise typer.BadParameter(f"there is no node {each!r}, but {', '.join(nodes)}")
        new = sign_registry(new, [(each, nodes[each].key) for each in chosen])
        _write(proposal, new)
        signed, total = signed_stake(old, new)
    report = {
        "digest": new.digest,
        "signers": [each for each, _ in new.signatures],
        "signed_stake": signed,
        "total_stake": total,
        "enough": QUORUM[1] * signed >= QUORUM[0] * total,
    }
    if as_json:
        show.print_json(report)
    else:
        show.tables.print(f"signed by {signed} of {total} of the stake in force")


@app.command()
def apply(
    proposal: ProposalArgument, name: NameOption = stacks.DEFAULT_NAME, as_json: JsonOption = False
) -> None:
    """Put a signed proposal into force: the secret, the nodes, the public parameters."""
    from lovectl.registry_stack import apply as apply_registry

    stack = _stack(name)
    with _refusals():
        new = parse_registry(proposal.read_bytes())
        apply_registry(stack, new)
    # The nodes that were started anew go on after us.
    release_all()
    _print(new, as_json)


def rewards(
    epoch: Annotated[int, typer.Option(min=1, help="Epoch to settle.")],
    name: NameOption = stacks.DEFAULT_NAME,
    as_json: JsonOption = False,
) -> None:
    """Settle an epoch: what each delegate earned, what double voters lose, what is due."""
    from lovectl.access import access_to
    from lovectl.ledger import of_epoch, read_entries, settle
    from lovectl.registry_stack import gather_evidence, read_chain

    stack = _stack(name)
    with _refusals():
        chain = read_chain(stack)
        verify_chain(stack.state.registry_pin, chain)
        registries = {one.epoch: one for one in chain}
        if epoch not in registries:
            raise typer.BadParameter(f"--epoch: the chain has {', '.join(map(str, registries))}")
        found = of_epoch(read_entries(access_to(stack).stores), registries[epoch])
        gathered = gather_evidence(stack, registries[epoch])
        later = [proof for one in chain for proof in one.evidence]
        settled = settle(found, [*gathered.evidence, *later])
    report = {**msgspec.to_builtins(settled), "nodes_not_asked": gathered.silent}
    if as_json:
        show.print_json(report)
        return
    table = Table("delegate", "earned", "forfeited", "due", title=f"epoch {epoch}, milli-LOVE")
    for each, amount in settled.earned.items():
        row = (amount, settled.forfeited.get(each, 0), settled.due.get(each, 0))
        table.add_row(each, *map(str, row))
    show.tables.print(table)


def _of_epoch(stack: stacks.Stack, old: Registry) -> dict[str, Any]:
    """Uptime and evidence of the epoch that ends."""
    from lovectl.access import access_to
    from lovectl.ledger import of_epoch, read_entries, uptime_ppm
    from lovectl.registry_stack import gather_evidence

    found = of_epoch(read_entries(access_to(stack).stores), old)
    gathered = gather_evidence(stack, old)
    for node, why in gathered.silent.items():
        show.notes.print(f"no evidence from {node}: {why}")
    return {
        "uptime_ppm": uptime_ppm(found),
        "evidence": [*found.double_votes, *gathered.evidence],
    }


def _stack(name: str) -> stacks.Stack:
    stack = stacks.find(name)
    if stack is None:
        raise NotRunning(name)
    return stack


@contextmanager
def _refusals() -> Iterator[None]:
    """What is wrong with a registry or a file is one message that names the rule."""
    try:
        yield
    except RegistryError as error:
        raise StackError(f"{error.reason}: {error.detail}") from None
    except (ValueError, OSError) as error:
        raise StackError(str(error)) from None


def _write(path: Path, registry: Registry) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(registry), indent=2))


def _print(found: Registry, as_json: bool) -> None:
    rows = found.delegates()
    if as_json:
        document = msgspec.to_builtins(found)
        show.print_json({"digest": found.digest, "registry": document, "delegates": rows})
        return
    table = Table("delegate", "level", "city", "stake", "uptime ppm", title=f"epoch {found.epoch}")
    for one in rows:
        uptime = found.uptime_ppm.get(one["delegate_id"])
        table.add_row(
            *(str(one[key]) for key in ("delegate_id", "level", "city", "stake")),
            "new" if uptime is None else str(uptime),
        )
    show.tables.print(table)
    show.tables.print(f"digest {found.digest}")
