"""The canary in one tier: written as money is, read back, opened, and compared with what was sent."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from federation.batch import Group, Tier
from federation.breaker import BreakerState, calling_as
from persist.record import (
    Inconsistent,
    RecordDamaged,
    Sealing,
    open_content,
    record_of,
    unsigned,
)
from persist.tier import Entry, TierStore, TierUnavailable


class CanaryPart(msgspec.Struct, frozen=True):
    """How the canary of one continent fared in this tier; `reason` says why it failed."""

    continent: str
    outcome: Literal["ok", "failed"]
    reason: str | None = None


class CanaryReport(msgspec.Struct, frozen=True):
    """How the canary fared in one tier: `ok` if no part failed; then how the breakers are."""

    tier: Tier
    outcome: Literal["ok", "failed"]
    took_ms: float
    parts: list[CanaryPart]
    breakers: list[BreakerState]


def run_canary(
    groups: Sequence[Group],
    tier: Tier,
    store: TierStore,
    private_keys: Callable[[], Mapping[str, str]],
    opening: Callable[[str], object] = lambda key_id: None,
) -> CanaryReport:
    """Send each group's one item through the tier, beside all money.

    Parameters
    ----------
    groups : sequence of Group
        One a continent, of one accepted item each.
    private_keys : callable
        Gives the secret `love/sealing`'s keys; asked once something is to be opened.
    opening : callable
        Told the id of each sealing key, once, before it opens content.
    """
    started_s = time.perf_counter()
    now_ms = time.time_ns() // 1_000_000
    entries: dict[str, Entry] = {}
    failures: dict[str, str] = {}
    for group in groups:
        try:
            entries[group.continent] = _entry(group, tier, now_ms)
        except Inconsistent as error:
            failures[group.continent] = error.detail
    with calling_as("canary"):
        try:
            found = store.canary(entries)
        except TierUnavailable as error:
            found = dict.fromkeys(entries, error)
        told: set[str] = set()
        for continent, entry in entries.items():
            try:
                _check(entry, found[continent], private_keys, opening, told)
            except (TierUnavailable, RecordDamaged, msgspec.MsgspecError) as error:
                failures[continent] = str(error)
    breakers = store.breakers()
    # A store that took too long did the work, and payments still go elsewhere.
    resting = {one.name: one.why for one in breakers if one.state != "closed"}
    for continent in entries:
        for name in (tier, f"{tier}/{continent}"):
            if name in resting:
                failures.setdefault(continent, f"breaker {name} is open: {resting[name]}")
    parts = [
        CanaryPart(one.continent, "failed", failures[one.continent])
        if one.continent in failures
        else CanaryPart(one.continent, "ok")
        for one in groups
    ]
    return CanaryReport(
        tier=tier,
        outcome="failed" if failures else "ok",
        took_ms=round((time.perf_counter() - started_s) * 1000, 1),
        parts=parts,
        breakers=breakers,
    )


def _entry(group: Group, tier: Tier, now_ms: int) -> Entry:
    [item] = group.items
    entry = record_of(item, group.continent, group.wrapped_keys, tier, now_ms)
    if unsigned([entry]):
        raise Inconsistent(entry[0].transaction_id, "its signature doesn't hold")
    return entry


def _check(
    sent: Entry,
    found: Entry | TierUnavailable,
    private_keys: Callable[[], Mapping[str, str]],
    opening: Callable[[str], object],
    told: set[str],
) -> None:
    """Raise unless what was found is what was sent, and opens."""
    if isinstance(found, TierUnavailable):
        raise found
    record, sealed = found
    if not _same(sent, found):
        raise RecordDamaged(record.transaction_id, "another record came back than was written")
    key_id = msgspec.json.decode(sealed, type=Sealing).private_key_id
    if key_id not in told:
        opening(key_id)
        told.add(key_id)
    # The id binds the content, so what opens under it is what was sealed.
    open_content(record, sealed, private_keys())


def _same(sent: Entry, found: Entry) -> bool:
    """Content byte by byte, the record member by member."""
    return sent[1] == found[1] and msgspec.json.encode(sent[0]) == msgspec.json.encode(found[0])
