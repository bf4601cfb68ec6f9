"""What a month of the federation costs at a given rate, from a table of list prices.

Every quantity comes from the shape of the pipeline (one batch is one execution), from the limits in
`federation.limits`, and from the assumptions below, which are printed beside the result.
"""

import importlib.resources
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from federation.limits import (
    BATCH_BYTES_MAX,
    BATCH_ITEMS_MAX,
    INBOX_MESSAGE_BYTES_MAX,
    REQUEST_BATCH_ITEMS_MAX,
)
from federation.regions import CONTINENTS

#: Hours of a month as the price pages count them.
HOURS_A_MONTH: Final = 730
SECONDS_A_MONTH: Final = HOURS_A_MONTH * 3600
#: What `lovectl cost` and docs/costs.md show side by side.
USUAL_TPS: Final = (1.0, 100.0, 10_000.0)
#: SQS bills each 64 KiB of a request, Express executions each 100 ms and each 64 MB.
SQS_CHUNK_BYTES: Final = 64 * 1024
EXPRESS_STEP_MS: Final = 100
EXPRESS_MEMORY_GB: Final = 64 / 1024
WRITE_UNIT_BYTES: Final = 1024
#: Limits of template.yaml: messages of one invocation of dispatch, its concurrency, that of a
#: persist function, and requests a second.
MESSAGES_MAX: Final = 10
DISPATCH_CONCURRENCY_MAX: Final = 50
PERSIST_CONCURRENCY_MAX: Final = 150
API_REQUESTS_A_SECOND_MAX: Final = 1_000
#: SQS takes so many requests a second for one group of a FIFO queue; the audit trail is one.
AUDIT_EVENTS_A_SECOND_MAX: Final = 300
#: Functions of template.yaml; each keeps one published version's snapshot.
FUNCTIONS: Final = 13
#: Reconcile runs each minute; where nothing is left undone: the dead letters, then a look at the
#: copies of each continent in DynamoDB and at immuDB's, then at each cluster's pending records.
RECONCILES_A_MONTH: Final = SECONDS_A_MONTH // 60
RECONCILE_LOOKS: Final = 1 + (len(CONTINENTS) + 1) + len(CONTINENTS)
#: Three states a look (work, choice, end), the first one; two maps, a choice and the end.
RECONCILE_TRANSITIONS: Final = 3 * (RECONCILE_LOOKS - 1) + 1 + 4
#: The canary comes each minute: itself, then a tier each.
CANARIES_A_MONTH: Final = SECONDS_A_MONTH // 60
TIERS: Final = 3
#: A continent has a key for its data keys (template.yaml) and one for its storage (Terraform).
KEYS_A_CONTINENT: Final = 2

Tiers = Sequence[tuple[float | None, float]]


class Prices(msgspec.Struct, frozen=True):
    """List prices in one currency for one region; a tier is (up to this quantity, price of one)."""

    as_of: str
    checked: bool
    note: str
    currency: str
    region: str
    sources: dict[str, str]
    prices: dict[str, Any]

    def of(self, name: str, quantity: float) -> float:
        """What `quantity` in a month costs, tier by tier."""
        return tiered(quantity, self.prices[name])

    @property
    def cluster_month(self) -> dict[str, float]:
        """Atlas tier to the price of one cluster."""
        return dict(self.prices["atlas_cluster_month"])

    @property
    def atlas_surcharge(self) -> dict[str, float]:
        """What Atlas adds for a security feature, as a share of the clusters' price."""
        return dict(self.prices["atlas_surcharge"])


class Assumptions(msgspec.Struct, frozen=True):
    """What is not measured here; each is printed with the result."""

    #: Transactions that a client posts in one request.
    transactions_a_request: int = 10
    #: Reads (`GET /api/transaction/{id}`) for each transaction.
    reads_a_transaction: float = 0.1
    #: One transaction in the inbox: header, signature, sealed content of about 0.5 KB.
    transaction_bytes: int = 1_200
    #: Billed milliseconds an invocation: the time budget (DESIGN section 6), not a measurement.
    authorize_ms: int = 5
    send_ms: int = 20
    pop_ms: int = 15
    dpos_ms: int = 120
    shard_ms: int = 8
    reward_ms: int = 7
    persist_ms: int = 100
    #: dispatch waits for the whole execution: the stages above plus this.
    transitions_ms: int = 100
    #: Memory of each function (template.yaml).
    memory_mb: int = 1_769
    #: Transactions that miss Atlas and go to DynamoDB: 43 minutes of outage a month.
    fallback_share: float = 0.001
    #: Requests that are refused and audited; each read is an audit event too.
    refused_share: float = 0.01
    audit_ms: int = 50
    #: The canary waits for the slowest tier, and each writes and reads for every continent.
    canary_ms: int = 400
    #: A look of reconcile that finds nothing; what an outage left is paid by its length.
    reconcile_ms: int = 60
    #: CloudWatch lines of one invocation: START, END, REPORT and one metric document.
    log_bytes: int = 1_200
    #: Inserts that the busiest continent takes, of all.
    busiest_share: float = 0.3
    #: Long polls of an idle queue: five pollers, 20 s each.
    idle_polls_a_second: float = 0.25
    #: An execution environment asks KMS for a continent's data key so often.
    data_key_lifetime_s: int = 300

    @property
    def execution_ms(self) -> int:
        """One execution of the pipeline."""
        return (
            self.transitions_ms
            + self.pop_ms
            + self.dpos_ms
            + self.shard_ms
            + self.reward_ms
            + self.persist_ms
        )


#: Inserts a second for which a tier is chosen: a guess to be replaced by a load test.
INSERTS_A_SECOND: Final[Mapping[str, float]] = {
    "M10": 50,
    "M20": 150,
    "M30": 500,
    "M40": 1_000,
    "M50": 2_500,
    "M60": 5_000,
}


class Line(msgspec.Struct, frozen=True):
    """One row of the bill."""

    service: str
    item: str
    quantity: float
    unit: str
    usd: float


class Bill(msgspec.Struct, frozen=True):
    """A month at one rate."""

    tps: float
    atlas_tier: str
    #: Transactions in one execution of the pipeline, on average.
    batch_items: float
    executions_at_once: float
    #: Limits of template.yaml that must be raised for this rate.
    limits_exceeded: tuple[str, ...]
    #: What a month adds to all stores' first copies; storage and its growth are not priced.
    stored_gb: float
    lines: tuple[Line, ...]

    @property
    def total_usd(self) -> float:
        """The sum of all lines."""
        return sum(line.usd for line in self.lines)


def load_prices() -> Prices:
    """The table that lies beside this module."""
    text = importlib.resources.files("lovectl").joinpath("prices.json").read_bytes()
    return msgspec.json.decode(text, type=Prices)


def monthly_bill(
    tps: float,
    prices: Prices,
    assumed: Assumptions | None = None,
    tier: str | None = None,
) -> Bill:
    """What a month of a steady rate costs.

    Parameters
    ----------
    tps : float
        Transactions a second, around the clock.
    prices : Prices
    assumed : Assumptions, optional
    tier : str, optional
        Atlas tier of all seven clusters; by default the smallest that takes the inserts.

    Raises
    ------
    ValueError
        The rate or an assumption is out of range, or the tier has no price.
    """
    assumed = assumed or Assumptions()
    _check(tps, prices, assumed, tier)
    chosen = tier or _smallest_tier(tps * assumed.busiest_share)
    flow = _Flow(tps, assumed)
    lines = (*_atlas_lines(chosen, prices), *_aws_lines(flow, prices, assumed))
    return Bill(
        tps=tps,
        atlas_tier=chosen,
        batch_items=flow.batch_items,
        executions_at_once=flow.executions_at_once,
        limits_exceeded=tuple(_limits_exceeded(flow)),
        stored_gb=tps * SECONDS_A_MONTH * assumed.transaction_bytes / 1e9,
        lines=lines,
    )


def document(bills: Sequence[Bill], prices: Prices, assumed: Assumptions) -> dict[str, Any]:
    """The bills as one JSON document, with the table's date and every assumption."""
    return {
        "currency": prices.currency,
        "region": prices.region,
        "prices_as_of": prices.as_of,
        "prices_checked": prices.checked,
        "note": prices.note,
        "sources": prices.sources,
        "assumptions": {
            **msgspec.to_builtins(assumed),
            "inserts_a_second_by_tier": dict(INSERTS_A_SECOND),
        },
        "bills": [
            {
                **msgspec.to_builtins(bill),
                "total_usd": round(bill.total_usd, 2),
            }
            for bill in bills
        ],
    }


def tiered(quantity: float, tiers: Tiers) -> float:
    """The price of `quantity`, each part of it at its own tier's price."""
    total, start = 0.0, 0.0
    for end, price in tiers:
        upper = quantity if end is None else min(quantity, end)
        total += max(0.0, upper - start) * price
        if end is None or quantity <= end:
            return total
        start = end
    raise ValueError("the last tier of a price must be open (null)")


class _Flow:
    """How many times a month each thing happens."""

    def __init__(self, tps: float, assumed: Assumptions) -> None:
        request_bytes = assumed.transactions_a_request * assumed.transaction_bytes
        messages_a_request = math.ceil(request_bytes / INBOX_MESSAGE_BYTES_MAX)
        items_a_message = assumed.transactions_a_request / messages_a_request
        requests_a_second = tps / assumed.transactions_a_request
        messages_a_second = requests_a_second * messages_a_request

        items_max = min(BATCH_ITEMS_MAX, BATCH_BYTES_MAX // assumed.transaction_bytes)
        messages_max = max(1.0, min(MESSAGES_MAX, items_max / items_a_message))
        self.execution_ms = assumed.execution_ms
        # The dearest reading: messages gather in the inbox only once all concurrent executions
        # are busy. In truth they gather sooner.
        gathered = messages_a_second * self.execution_ms / 1000 / DISPATCH_CONCURRENCY_MAX
        batches_a_second = messages_a_second / min(max(1.0, gathered), messages_max)

        self.batch_items = tps / batches_a_second
        self.executions_at_once = batches_a_second * self.execution_ms / 1000
        groups_a_second = batches_a_second * _continents_in(self.batch_items)
        self.persists_at_once = max(1.0, groups_a_second * assumed.persist_ms / 1000)

        self.transactions = tps * SECONDS_A_MONTH
        self.posts = requests_a_second * SECONDS_A_MONTH
        self.reads = self.transactions * assumed.reads_a_transaction
        self.messages = messages_a_second * SECONDS_A_MONTH
        self.message_bytes = items_a_message * assumed.transaction_bytes
        self.batches = batches_a_second * SECONDS_A_MONTH
        self.groups = groups_a_second * SECONDS_A_MONTH
        # Each tier opens its canaries with the sealing key.
        opened = CANARIES_A_MONTH * TIERS
        self.audit_events = self.posts * assumed.refused_share + self.reads + opened


def _atlas_lines(tier: str, prices: Prices) -> Iterator[Line]:
    clusters = len(CONTINENTS)
    usd = clusters * prices.cluster_month[tier]
    yield Line("Atlas", "clusters", clusters, "clusters", usd)
    for feature, share in prices.atlas_surcharge.items():
        yield Line("Atlas", feature, clusters, "clusters", usd * share)


def _aws_lines(flow: _Flow, prices: Prices, assumed: Assumptions) -> Iterator[Line]:
    """In the order in which a transaction meets the services."""

    def line(service: str, item: str, quantity: float, unit: str, price: str) -> Line:
        return Line(service, item, quantity, unit, prices.of(price, quantity))

    api_requests = flow.posts + flow.reads
    yield line("API Gateway", "requests", api_requests, "requests", "api_gateway_request")

    stages = _invocations(flow, assumed)
    count = sum(times for times, _ in stages.values())
    yield line("Lambda", "requests", count, "requests", "lambda_request")
    memory_gb = assumed.memory_mb / 1024
    gb_s = {name: times * ms / 1000 * memory_gb for name, (times, ms) in stages.items()}
    # Tiers count the account's sum; each stage bears its share.
    rate = prices.of("lambda_gb_second", sum(gb_s.values())) / sum(gb_s.values())
    for name, quantity in gb_s.items():
        yield Line("Lambda", name, quantity, "GB-s", quantity * rate)
    cached = FUNCTIONS * memory_gb * SECONDS_A_MONTH
    yield line("Lambda", "SnapStart", cached, "GB-s", "lambda_snapstart_cache_gb_second")

    yield line("Step Functions", "executions", flow.batches, "requests", "step_functions_request")
    billed_s = math.ceil(flow.execution_ms / EXPRESS_STEP_MS) * EXPRESS_STEP_MS / 1000
    duration = flow.batches * billed_s * EXPRESS_MEMORY_GB
    yield line("Step Functions", "duration", duration, "GB-s", "step_functions_gb_second")

    transitions = RECONCILES_A_MONTH * RECONCILE_TRANSITIONS
    yield line(
        "Step Functions", "reconcile", transitions, "transitions", "step_functions_transition"
    )

    chunks = math.ceil(flow.message_bytes / SQS_CHUNK_BYTES)
    batch_bytes = flow.batch_items * assumed.transaction_bytes
    received = math.ceil(batch_bytes / SQS_CHUNK_BYTES) * flow.batches
    polls = assumed.idle_polls_a_second * SECONDS_A_MONTH
    # Sent in chunks, received in chunks, deleted by one request a batch.
    sqs = flow.messages * chunks + received + flow.batches + polls
    yield line("SQS", "requests", sqs, "requests", "sqs_request")
    # Each sent, received and deleted by itself; in bursts ten share a request.
    spooled = 3 * flow.audit_events + polls
    yield line("SQS", "audit", spooled, "requests", "sqs_fifo_request")

    keys = len(CONTINENTS) * KEYS_A_CONTINENT
    yield line("KMS", "keys", keys, "keys", "kms_key_month")
    unwraps = SECONDS_A_MONTH / assumed.data_key_lifetime_s * len(CONTINENTS)
    asked = unwraps * flow.persists_at_once
    yield line("KMS", "requests", asked, "requests", "kms_request")

    # A conditional put and half a read unit each (eventually consistent).
    # A call that is admitted moves its sender's token bucket.
    yield line("DynamoDB", "rates", api_requests, "WRU", "dynamodb_write_unit")
    yield line("DynamoDB", "positions", flow.transactions, "WRU", "dynamodb_write_unit")
    position_reads = flow.transactions / 2
    yield line("DynamoDB", "positions", position_reads, "RRU", "dynamodb_read_unit")
    # A transactional write counts twice; a record's nonce is an item of its own.
    units = 2 * math.ceil(assumed.transaction_bytes / WRITE_UNIT_BYTES) + 2
    fallback = flow.transactions * assumed.fallback_share * units
    yield line("DynamoDB", "fallback", fallback, "WRU", "dynamodb_write_unit")

    # One item a continent, in a transaction, with as much content as any other.
    units = 2 * math.ceil(assumed.transaction_bytes / WRITE_UNIT_BYTES)
    canaries = CANARIES_A_MONTH * len(CONTINENTS) * units
    yield line("DynamoDB", "canary", canaries, "WRU", "dynamodb_write_unit")

    yield line("CloudWatch", "logs", count * assumed.log_bytes / 1e9, "GB", "logs_gb")


def _limits_exceeded(flow: _Flow) -> Iterator[str]:
    # A rounding error above a limit is the limit itself.
    if flow.executions_at_once > DISPATCH_CONCURRENCY_MAX * (1 + 1e-9):
        yield "dispatch concurrency"
    if flow.persists_at_once > PERSIST_CONCURRENCY_MAX:
        yield "persist concurrency"
    if (flow.posts + flow.reads) / SECONDS_A_MONTH > API_REQUESTS_A_SECOND_MAX:
        yield "API requests a second"
    if flow.audit_events / SECONDS_A_MONTH > AUDIT_EVENTS_A_SECOND_MAX:
        yield "audit events a second"


def _invocations(flow: _Flow, assumed: Assumptions) -> dict[str, tuple[float, int]]:
    """Stage to its invocations a month and the milliseconds of one."""
    return {
        "authorize": (flow.posts + flow.reads, assumed.authorize_ms),
        "send": (flow.posts + flow.reads, assumed.send_ms),
        "dispatch": (flow.batches, flow.execution_ms),
        "pop": (flow.batches, assumed.pop_ms),
        "dpos": (flow.batches, assumed.dpos_ms),
        "shard": (flow.batches, assumed.shard_ms),
        "reward": (flow.batches, assumed.reward_ms),
        "persist": (
            flow.groups * (1 + assumed.fallback_share) + flow.reads,
            assumed.persist_ms,
        ),
        "audit": (flow.audit_events, assumed.audit_ms),
        "canary": (CANARIES_A_MONTH * (1 + TIERS), assumed.canary_ms),
        "reconcile": (RECONCILES_A_MONTH * RECONCILE_LOOKS, assumed.reconcile_ms),
    }


def _continents_in(items: float) -> float:
    """Home continents that so many transactions have on average, all being equally likely."""
    return len(CONTINENTS) * (1 - math.pow(1 - 1 / len(CONTINENTS), items))


def _smallest_tier(inserts_a_second: float) -> str:
    for tier, most in INSERTS_A_SECOND.items():
        if inserts_a_second <= most:
            return tier
    raise ValueError(
        f"{inserts_a_second:,.0f} inserts a second into one cluster are more than the largest "
        "priced tier is planned for: shard it, and price that"
    )


def _check(tps: float, prices: Prices, assumed: Assumptions, tier: str | None) -> None:
    if not (math.isfinite(tps) and tps > 0):
        raise ValueError(f"a rate is a number above 0, not {tps}")
    if not 1 <= assumed.transactions_a_request <= REQUEST_BATCH_ITEMS_MAX:
        raise ValueError(f"a request carries 1 to {REQUEST_BATCH_ITEMS_MAX} transactions")
    known = prices.cluster_month
    if tier is not None and tier not in known:
        raise ValueError(f"tier {tier!r} is none of {', '.join(known)}")
