"""What an operator may change of a delegate registry: the next one, as a proposal without signatures."""

from collections.abc import Mapping, Sequence

import msgspec

from federation.registry import (
    Candidate,
    Delegation,
    Evidence,
    Level,
    Registry,
    Seats,
    parse_registry,
)


def next_registry(
    old: Registry,
    *,
    add: Sequence[Candidate] = (),
    remove: Sequence[str] = (),
    delegate: Sequence[Delegation] = (),
    undelegate: Sequence[Delegation] = (),
    seats: Mapping[Level, int] | None = None,
    uptime_ppm: Mapping[str, int] | None = None,
    evidence: Sequence[Evidence] = (),
) -> Registry:
    """The registry that would follow `old`.

    Parameters
    ----------
    add : sequence of Candidate
        One whose id is known takes that one's place: a new key, address or stake.
    remove : sequence of str
        Their delegations and their evidence go with them.
    delegate, undelegate : sequence of Delegation
        Stake more and stake less; what is left of none is gone.
    uptime_ppm : mapping, optional
        Of the epoch that ends; by default what `old` says goes on.
    evidence : sequence of Evidence
        Beside what stands already; one for a delegate is kept.

    Raises
    ------
    RegistryError
        The next one would break a rule: see `parse_registry`.
    ValueError
        Who is removed is no candidate; more is undelegated than there is.
    """
    candidates = {one.delegate_id: one for one in old.candidates}
    for name in remove:
        if candidates.pop(name, None) is None:
            raise ValueError(f"remove: {name!r} is no candidate")
    candidates.update({one.delegate_id: one for one in add})
    stakes = {(one.holder, one.delegate_id): one.stake for one in old.delegations}
    for one in delegate:
        pair = one.holder, one.delegate_id
        stakes[pair] = stakes.get(pair, 0) + one.stake
    for one in undelegate:
        pair = one.holder, one.delegate_id
        if stakes.get(pair, 0) < one.stake:
            raise ValueError(f"undelegate: {one.holder} lent {one.delegate_id} less than that")
        stakes[pair] -= one.stake
    proofs: dict[str, Evidence] = {}
    for proof in (*old.evidence, *evidence):
        proofs.setdefault(proof.delegate_id, proof)
    gone = set(remove)
    uptime = old.uptime_ppm if uptime_ppm is None else uptime_ppm
    new = Registry(
        epoch=old.epoch + 1,
        previous=old.digest,
        seats={**old.seats, **(seats or {})},
        candidates=[candidates[name] for name in sorted(candidates)],
        delegations=[
            Delegation(holder, name, stake)
            for (holder, name), stake in sorted(stakes.items())
            if stake and (name not in gone or name in candidates)
        ],
        uptime_ppm={name: uptime[name] for name in sorted(uptime) if name in candidates},
        evidence=[proofs[name] for name in sorted(proofs) if name in candidates],
    )
    # Read as whoever verifies it will, so that nobody signs what nobody takes.
    return parse_registry(msgspec.json.encode(new))


def parse_candidate(document: bytes) -> Candidate:
    """A candidate as JSON: the members of the list in `love/delegates`.

    Raises
    ------
    ValueError
        Names the field and the rule.
    """
    try:
        return msgspec.json.decode(document, type=Candidate)
    except msgspec.DecodeError as error:
        raise ValueError(f"candidate: {error}") from None


def parse_delegation(text: str) -> Delegation:
    """`HOLDER:DELEGATE:STAKE`.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> parse_delegation("00" * 32 + ":node-rome:5").stake
    5
    """
    parts = text.split(":")
    if len(parts) != 3:
        raise ValueError(f"{text!r} is not HOLDER:DELEGATE:STAKE")
    fields = {"holder": parts[0], "delegate_id": parts[1], "stake": parts[2]}
    try:
        return msgspec.convert(fields, Delegation, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{text!r}: {error}") from None


def parse_seats(text: str) -> dict[Level, int]:
    """`LEVEL=SEATS`.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> parse_seats("city=5")
    {'city': 5}
    """
    level, _, count = text.partition("=")
    try:
        return msgspec.convert({level: count}, dict[Level, Seats], strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{text!r}: {error}") from None
