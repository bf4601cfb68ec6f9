"""The figures that the federation promises of its core, each with its limit."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import contests as named
from inputs import BAD_PLACEMENTS
from rounds import Spread

#: Contest, entry → spread.
Measured = Mapping[str, Mapping[str, Spread]]
Pick = Callable[[Spread], float]


@dataclass(frozen=True)
class Limit:
    """What a figure has to keep; `main` figures are those that the core was ordered by."""

    what: str
    bound: Literal["at most", "at least"]
    value: float
    main: bool = True

    def holds(self, found: float) -> bool:
        """Whether `found` keeps this limit."""
        return found <= self.value if self.bound == "at most" else found >= self.value

    def share(self, found: float) -> float:
        """How much of the limit is used up: 1 is all of it."""
        return found / self.value if self.bound == "at most" else self.value / found


LIMITS: Final = {
    "batch_verify_ed25519_vs_zebra": Limit(
        "Ed25519 batch: time ÷ raw ed25519-zebra's", "at most", 1.10
    ),
    "batch_verify_ed25519_vs_cryptography": Limit(
        "Ed25519 batch: times as fast as Python cryptography", "at least", 6
    ),
    "batch_verify_1pct_bad_vs_clean": Limit("Ed25519 batch: 1 % bad ÷ clean", "at most", 2.5),
    "ml_dsa_65_vs_aws_lc": Limit("ML-DSA-65: time ÷ raw aws-lc-rs's", "at most", 1.10),
    "resolve_object_deps_us": Limit("layers inside Rust: µs a transaction", "at most", 0.3),
    "resolve_object_deps_vs_dict": Limit("layers: times as fast as a Python dict", "at least", 5),
    "collect_vs_signatures": Limit("votes: collect ÷ signatures alone", "at most", 1.15),
    "locate_us": Limit("place, the slower input: µs a position", "at most", 1),
    "seal_us_cached_key": Limit("sealing of 1 KB: µs", "at most", 2),
    "import_ms": Limit("import of the three modules: ms", "at most", 5),
    "batch_verify_ed25519_32_signers_vs_zebra": Limit(
        "Ed25519 batch of 32 signers: time ÷ raw ed25519-zebra's", "at most", 1.10, main=False
    ),
    "collect_vs_zebra": Limit(
        "votes: collect ÷ one raw ed25519-zebra batch", "at most", 1.15, main=False
    ),
    "certificate_cold_vs_ml_dsa_65": Limit(
        "certificate, first time ÷ its signature", "at most", 1.10, main=False
    ),
    "certificate_warm_us": Limit("certificate, seen before: µs", "at most", 1, main=False),
    "canonicalize_vs_serde_jcs": Limit(
        "canonical JSON: times as fast as serde_jcs", "at least", 1, main=False
    ),
}


def figures(measured: Measured, imports: tuple[Spread, Spread], pick: Pick) -> dict[str, float]:
    """Every figure of `LIMITS`, out of the minima or the medians as `pick` chooses."""

    def us(contest: str, entry: str) -> float:
        return pick(measured[contest][entry])

    def ratio(contest: str, over: str, under: str) -> float:
        return us(contest, over) / us(contest, under)

    bad_us = [us(named.ED25519_BAD, named.bad_at(one)) for one in range(BAD_PLACEMENTS)]
    importing, bare = imports
    return {
        "batch_verify_ed25519_vs_zebra": ratio(named.ED25519, named.OURS, named.ZEBRA),
        "batch_verify_ed25519_vs_cryptography": ratio(
            named.ED25519, named.CRYPTOGRAPHY, named.OURS
        ),
        "batch_verify_1pct_bad_vs_clean": statistics.median(bad_us)
        / us(named.ED25519_BAD, named.CLEAN),
        "ml_dsa_65_vs_aws_lc": ratio(named.ML_DSA, named.OURS, named.AWS_LC),
        "resolve_object_deps_us": us(named.OBJECTS, named.OURS_IN_RUST),
        "resolve_object_deps_vs_dict": ratio(named.OBJECTS, named.DICT, named.OURS),
        "collect_vs_signatures": ratio(named.VOTING, named.COLLECT, named.SIGNATURES),
        "locate_us": max(us(named.PLACES, named.NEAR), us(named.PLACES, named.SPHERE)),
        "seal_us_cached_key": us(named.SEALING, named.OURS),
        "import_ms": (pick(importing) - pick(bare)) / 1000,
        "batch_verify_ed25519_32_signers_vs_zebra": ratio(
            named.ED25519_FEW, named.OURS, named.ZEBRA
        ),
        "collect_vs_zebra": ratio(named.VOTING, named.COLLECT, named.ZEBRA),
        "certificate_cold_vs_ml_dsa_65": ratio(named.AUTHORITY, named.COLD, named.RAW_SIGNATURE),
        "certificate_warm_us": us(named.AUTHORITY, named.WARM),
        "canonicalize_vs_serde_jcs": ratio(named.CANONICAL, named.SERDE_JCS, named.OURS_IN_RUST),
    }


def speed_ups(measured: Measured) -> dict[str, float]:
    """How many times as fast all cores are as one thread."""
    pairs = {
        "batch_verify_ed25519": (named.ED25519, named.OURS, named.OURS_ALL_CORES),
        "batch_verify_ml_dsa_65": (named.ML_DSA, named.OURS, named.OURS_ALL_CORES),
        "dpos_parallel_collect": (named.VOTING, named.COLLECT, named.COLLECT_ALL_CORES),
        "locate": (named.PLACES, named.NEAR, named.NEAR_ALL_CORES),
    }
    return {
        name: measured[contest][one].min_us / measured[contest][all_cores].min_us
        for name, (contest, one, all_cores) in pairs.items()
    }
