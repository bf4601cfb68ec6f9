"""A month's bill follows from the price table, the limits and the assumptions, and from nothing else."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from federation.regions import CONTINENTS
from lovectl.app import app
from lovectl.commands import register
from lovectl.cost import (
    API_REQUESTS_A_SECOND_MAX,
    DISPATCH_CONCURRENCY_MAX,
    FUNCTIONS,
    MESSAGES_MAX,
    PERSIST_CONCURRENCY_MAX,
    USUAL_TPS,
    Assumptions,
    Bill,
    Prices,
    document,
    load_prices,
    monthly_bill,
    tiered,
)

REPOSITORY = Path(__file__).parents[2]
TEMPLATE = (REPOSITORY / "template.yaml").read_text()
COSTS = (REPOSITORY / "docs" / "costs.md").read_text()


@pytest.fixture(scope="module")
def prices() -> Prices:
    return load_prices()


def _usd(bill: Bill, service: str, item: str, unit: str | None = None) -> float:
    (found,) = [
        line.usd
        for line in bill.lines
        if (line.service, line.item) == (service, item) and unit in (None, line.unit)
    ]
    return found


def test_each_part_of_a_quantity_is_charged_at_its_own_tier() -> None:
    tiers = [(100.0, 3.0), (200.0, 2.0), (None, 1.0)]
    assert tiered(0, tiers) == 0
    assert tiered(100, tiers) == 300
    assert tiered(150, tiers) == 300 + 100
    assert tiered(1_000, tiers) == 300 + 200 + 800


def test_a_price_without_an_open_tier_is_refused() -> None:
    with pytest.raises(ValueError, match="open"):
        tiered(101, [(100.0, 3.0)])


def test_seven_m10_clusters_cost_about_400_dollars(prices: Prices) -> None:
    bill = monthly_bill(1, prices)
    assert bill.atlas_tier == "M10"
    assert _usd(bill, "Atlas", "clusters") == pytest.approx(7 * 56.94)
    assert _usd(bill, "Atlas", "own keys") == pytest.approx(7 * 56.94 * 0.15)


def test_the_figures_at_100_a_second_are_those_worked_out_by_hand(prices: Prices) -> None:
    # 730 h × 3,600 s = 2,628,000 s; 100/s are 262.8 million transactions, 26.28 million posts of
    # ten, and as many reads (one for ten transactions). No more than 3.5 executions at once, so
    # each post is a batch.
    bill = monthly_bill(100, prices)
    assert bill.batch_items == pytest.approx(10)
    assert bill.executions_at_once == pytest.approx(3.5)
    assert bill.limits_exceeded == ()
    # 52.56 million requests at 3.50 a million.
    assert _usd(bill, "API Gateway", "requests") == pytest.approx(183.96)
    # 26.28 million executions of 350 ms, billed as 400 ms of 64 MB: 657,000 GB-s.
    assert _usd(bill, "Step Functions", "executions") == pytest.approx(26.28)
    assert _usd(bill, "Step Functions", "duration") == pytest.approx(657_000 * 1.66667e-5)
    # dpos: 26.28 million × 0.12 s × 1,769/1,024 GB.
    gb_s = 26.28e6 * 0.12 * 1769 / 1024
    assert _usd(bill, "Lambda", "dpos") == pytest.approx(gb_s * 1.66667e-5)
    # Sent, received and deleted once each, and an empty poll every four seconds.
    assert _usd(bill, "SQS", "requests") == pytest.approx((3 * 26.28e6 + 657_000) * 4e-7)
    assert _usd(bill, "DynamoDB", "positions", "WRU") == pytest.approx(262.8 * 0.625)
    # One in a thousand: 1,200 bytes are two units, twice for the transaction, two for the nonce.
    assert _usd(bill, "DynamoDB", "fallback") == pytest.approx(0.2628 * 6 * 0.625)
    assert bill.total_usd == pytest.approx(sum(line.usd for line in bill.lines))


def test_a_month_never_gets_cheaper_by_more_transactions(prices: Prices) -> None:
    rates = [0.01, 0.1, 1, 10, 100, 300, 1_000, 1_430, 3_000, 10_000, 16_000]
    totals = [monthly_bill(rate, prices).total_usd for rate in rates]
    assert totals == sorted(totals)
    assert totals[0] < totals[-1]


def test_a_batch_is_never_larger_than_the_limits_allow(prices: Prices) -> None:
    for items in (1, 10, 99, 100):
        for transaction_bytes in (300, 1_200, 16_000):
            assumed = Assumptions(transactions_a_request=items, transaction_bytes=transaction_bytes)
            bill = monthly_bill(16_000, prices, assumed)
            assert bill.batch_items <= 100 * (1 + 1e-9)
            assert bill.batch_items * transaction_bytes <= 120 * 1024 * (1 + 1e-9)


def test_larger_requests_cost_less(prices: Prices) -> None:
    single, ten = (
        monthly_bill(100, prices, Assumptions(transactions_a_request=n)).total_usd for n in (1, 10)
    )
    assert ten < single


def test_what_the_template_does_not_take_is_said(prices: Prices) -> None:
    assert monthly_bill(10_000, prices).limits_exceeded == (
        "API requests a second",
        "audit events a second",
    )
    single = monthly_bill(10_000, prices, Assumptions(transactions_a_request=1))
    assert "dispatch concurrency" in single.limits_exceeded


def test_a_backlog_of_all_continents_does_not_ask_for_more_persists_than_are_reserved() -> None:
    """Else a burst would go to the fallback tiers though every store is well."""
    assumed = Assumptions()
    at_once = DISPATCH_CONCURRENCY_MAX * len(CONTINENTS) * assumed.persist_ms / assumed.execution_ms
    assert at_once < PERSIST_CONCURRENCY_MAX


def test_the_limits_and_functions_are_those_of_the_template() -> None:
    def number(pattern: str) -> int:
        (found,) = re.findall(pattern, TEMPLATE)
        return int(found)

    assert number(r"BatchSize: (\d+)\n            FunctionResponseTypes") == MESSAGES_MAX
    assert number(r"MaximumConcurrency: (\d+)") == DISPATCH_CONCURRENCY_MAX
    assert number(r"PersistConcurrency:\n    Type: Number\n    Default: (\d+)") == (
        PERSIST_CONCURRENCY_MAX
    )
    everything = r'ResourcePath: /\*\n +HttpMethod: "\*"\n +ThrottlingRateLimit: (\d+)'
    assert number(everything) == API_REQUESTS_A_SECOND_MAX
    assert number(r"MemorySize: (\d+)") == Assumptions().memory_mb
    assert len(re.findall(r"Type: AWS::Serverless::Function\n", TEMPLATE)) == FUNCTIONS


@pytest.mark.parametrize("tps", [0, -1, float("nan"), float("inf"), 1e6])
def test_a_rate_that_nothing_is_priced_for_is_refused(prices: Prices, tps: float) -> None:
    with pytest.raises(ValueError):
        monthly_bill(tps, prices)


def test_an_unknown_tier_is_refused_by_name(prices: Prices) -> None:
    with pytest.raises(ValueError, match=r"M11.*M10"):
        monthly_bill(1, prices, tier="M11")


def test_every_price_ends_in_an_open_tier_and_never_rises(prices: Prices) -> None:
    for name, table in prices.prices.items():
        if name.startswith("atlas_"):
            assert all(value > 0 for value in table.values())
            continue
        ends = [end for end, _ in table]
        assert ends[-1] is None
        assert ends[:-1] == sorted(ends[:-1])
        assert [price for _, price in table] == sorted((p for _, p in table), reverse=True)


def test_the_document_names_date_sources_and_every_assumption(prices: Prices) -> None:
    assumed = Assumptions()
    made = json.loads(msgspec.json.encode(document([monthly_bill(1, prices)], prices, assumed)))
    assert made["prices_as_of"] == prices.as_of
    assert made["sources"]
    assert set(msgspec.to_builtins(assumed)) < set(made["assumptions"])
    (bill,) = made["bills"]
    assert bill["total_usd"] == pytest.approx(sum(one["usd"] for one in bill["lines"]), abs=0.01)


def test_the_page_about_costs_shows_what_the_command_computes(prices: Prices) -> None:
    bills = [monthly_bill(rate, prices) for rate in USUAL_TPS]
    services = dict.fromkeys(line.service for line in bills[0].lines)
    rows = {
        service: [sum(one.usd for one in bill.lines if one.service == service) for bill in bills]
        for service in services
    }
    rows["total"] = [bill.total_usd for bill in bills]
    for name, values in rows.items():
        assert f"| {name} | " + " | ".join(f"{one:,.0f}" for one in values) + " |" in COSTS


@pytest.fixture(scope="module")
def runner() -> CliRunner:
    if "cost" not in {
        one.callback.__name__ for one in app.registered_commands if one.callback is not None
    }:
        register(app)
    return CliRunner()


def test_the_command_prints_one_json_document(runner: CliRunner) -> None:
    answer = runner.invoke(app, ["cost", "--tps", "100", "--json"])
    assert answer.exit_code == 0
    made = json.loads(answer.stdout)
    assert [bill["tps"] for bill in made["bills"]] == [100.0]
    assert {line["service"] for line in made["bills"][0]["lines"]} == {
        "Atlas",
        "API Gateway",
        "Lambda",
        "Step Functions",
        "SQS",
        "KMS",
        "DynamoDB",
        "CloudWatch",
    }


def test_the_command_refuses_what_has_no_price(runner: CliRunner) -> None:
    assert runner.invoke(app, ["cost", "--tps", "0"]).exit_code == 2
    assert runner.invoke(app, ["cost", "--tier", "M11"]).exit_code == 2
