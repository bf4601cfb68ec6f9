"""The registry: whom it elects, what a change of it needs, and what is refused."""

import json
import random
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

import federation_dag
from federation import registry_source
from federation.limits import PARAMETER_CHARACTERS_MAX, PPM
from federation.registry import (
    LEVELS,
    NO_PREVIOUS,
    Candidate,
    Delegation,
    Evidence,
    Registry,
    RegistryError,
    check_registry,
    encode_registries,
    parse_registries,
    parse_registry,
)
from federation.registry_chain import evidence_of, verify_chain, verify_change, with_signature
from federation.registry_source import (
    PlaceKeeper,
    RegistryKeeper,
    SecretKeeper,
    from_parameters,
    read_file,
    read_parameters,
    to_parameters,
    write_file,
    write_parameters,
)

STAKES = {"a": 3, "b": 3, "c": 3, "d": 1}
#: One of the post-quantum algorithm, so that both are verified in one registry.
KEYS: dict[str, Any] = {
    name: MLDSA65PrivateKey.generate() if name == "b" else Ed25519PrivateKey.generate()
    for name in STAKES
}


def candidate(name: str, stake: int, level: Any = "city", key: bytes | None = None) -> Candidate:
    algorithm: Any = "ML-DSA-65" if name == "b" else "Ed25519"
    public = key or KEYS[name].public_key().public_bytes_raw()
    if key is not None:
        algorithm = "Ed25519"
    encoded = b64encode(public).decode()
    return Candidate(name, level, "Rome", "127.0.0.1:1", algorithm, encoded, stake)


GENESIS = Registry(
    epoch=1,
    previous=NO_PREVIOUS,
    seats={"city": 4},
    candidates=[candidate(name, stake) for name, stake in STAKES.items()],
)


def followed(old: Registry, signers: str = "abc", **changes: Any) -> Registry:
    """The next registry, signed by these delegates."""
    fields = {"epoch": old.epoch + 1, "previous": old.digest, "signatures": [], **changes}
    new = msgspec.structs.replace(old, **fields)
    return signed(new, signers)


def signed(new: Registry, signers: str) -> Registry:
    for name in signers:
        new = with_signature(new, name, KEYS[name].sign(new.signing_bytes))
    return new


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(RegistryError) as caught:
        call()
    return caught.value.reason


CANDIDATES = st.lists(st.tuples(st.sampled_from(LEVELS), st.integers(0, 5)), min_size=1, max_size=9)
LENT = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5)), max_size=6)
SEATS = st.fixed_dictionaries({level: st.integers(0, 4) for level in LEVELS})


def built(candidates: list[tuple[str, int]], lent: list[tuple[int, int]], seats: Any) -> Registry:
    rows = [
        candidate(f"n{n}", stake, level, key=bytes([n]) * 32)
        for n, (level, stake) in enumerate(candidates)
    ]
    delegations = [
        Delegation(f"{n:064x}", f"n{to % len(rows)}", stake) for n, (to, stake) in enumerate(lent)
    ]
    return Registry(1, NO_PREVIOUS, seats, rows, delegations)


@settings(deadline=None)
@given(CANDIDATES, LENT, SEATS, st.randoms(use_true_random=False))
def test_the_elected_don_t_depend_on_the_order_of_the_registry(
    candidates: Any, lent: Any, seats: Any, order: random.Random
) -> None:
    registry = built(candidates, lent, seats)
    rows, delegations = list(registry.candidates), list(registry.delegations)
    order.shuffle(rows)
    order.shuffle(delegations)
    mixed = msgspec.structs.replace(registry, candidates=rows, delegations=delegations)
    assert mixed.delegates() == registry.delegates()


@settings(deadline=None)
@given(CANDIDATES, LENT, SEATS)
def test_each_level_s_seats_go_to_its_largest_stakes(
    candidates: Any, lent: Any, seats: Any
) -> None:
    registry = built(candidates, lent, seats)
    stakes = registry.stakes()
    assert sum(stakes.values()) == sum(s for _, s in candidates) + sum(s for _, s in lent)
    elected = {one.delegate_id for one in registry.elected()}
    for level in LEVELS:
        names = [one.delegate_id for one in registry.candidates if one.level == level]
        inside = [stakes[name] for name in names if name in elected]
        outside = [stakes[name] for name in names if name not in elected and stakes[name]]
        assert len(inside) == min(seats[level], sum(stakes[name] > 0 for name in names))
        assert not inside or not outside or min(inside) >= max(outside)
    assert {one["delegate_id"]: one["stake"] for one in registry.delegates()} == {
        name: stakes[name] for name in elected
    }


@settings(deadline=None)
@given(CANDIDATES, LENT, SEATS, st.integers(1, 9), st.integers(0, 8))
def test_more_stake_never_loses_a_seat(
    candidates: Any, lent: Any, seats: Any, more: int, who: int
) -> None:
    registry = built(candidates, lent, seats)
    lucky = f"n{who % len(candidates)}"
    richer = msgspec.structs.replace(
        registry, delegations=[*registry.delegations, Delegation("f" * 64, lucky, more)]
    )
    before = lucky in {one.delegate_id for one in registry.elected()}
    assert not before or lucky in {one.delegate_id for one in richer.elected()}


def test_equal_stakes_take_turns_by_epoch() -> None:
    rows = [candidate(f"n{n}", 1, key=bytes([n]) * 32) for n in range(3)]
    registry = Registry(1, NO_PREVIOUS, {"city": 1}, rows)
    winners = {
        msgspec.structs.replace(registry, epoch=epoch).elected()[0].delegate_id
        for epoch in range(1, 60)
    }
    assert winners == {"n0", "n1", "n2"}


def test_a_registry_reads_as_it_was_written_and_its_name_is_without_signatures() -> None:
    new = followed(GENESIS)
    assert parse_registry(msgspec.json.encode(new)) == new
    assert msgspec.structs.replace(new, signatures=[]).digest == new.digest
    assert msgspec.structs.replace(new, epoch=3).digest != new.digest


@pytest.mark.parametrize(
    ("path", "value", "reason", "said"),
    [
        (("epoch",), 0, "malformed", "epoch"),
        (("epoch",), 1.5, "malformed", "epoch"),
        (("previous",), "xyz", "malformed", "previous"),
        (("extra",), 1, "malformed", "extra"),
        (("seats", "village"), 1, "malformed", "seats"),
        (("seats", "city"), 0, "no_delegates", "elected"),
        (("candidates", 0, "stake"), -1, "malformed", "stake"),
        (("candidates", 0, "stake"), 2**53 - 1, "malformed", "stake"),
        (("candidates", 0, "algorithm"), "RSA", "malformed", "algorithm"),
        (("candidates", 0, "public_key"), "AAAA", "malformed", "candidates[0].public_key"),
        (("candidates", 0, "delegate_id"), "c", "duplicate", "candidates.delegate_id"),
        (("uptime_ppm", "a"), PPM + 1, "malformed", "uptime_ppm"),
        (("uptime_ppm", "nobody"), 1, "unknown_delegate", "nobody"),
        (("signatures",), [["a", "AA=="], ["a", "AA=="]], "duplicate", "signatures"),
        (
            ("delegations",),
            [{"holder": "0" * 64, "delegate_id": "nobody", "stake": 1}],
            "unknown_delegate",
            "delegations.delegate_id",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_by_field_and_rule(
    path: tuple[Any, ...], value: Any, reason: str, said: str
) -> None:
    document = json.loads(msgspec.json.encode(GENESIS))
    at = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(RegistryError) as caught:
        parse_registry(json.dumps(document).encode())
    assert caught.value.reason == reason
    assert said in caught.value.detail


def test_two_candidates_can_t_have_one_key() -> None:
    twin = msgspec.structs.replace(GENESIS.candidates[0], delegate_id="e")
    registry = msgspec.structs.replace(GENESIS, candidates=[*GENESIS.candidates, twin])
    assert refused(lambda: check_registry(registry)) == "duplicate"


def test_a_duplicate_member_is_refused() -> None:
    text = msgspec.json.encode(GENESIS).replace(b'"epoch":1', b'"epoch":1,"epoch":2')
    assert refused(lambda: parse_registry(text)) == "malformed"


@pytest.mark.parametrize(
    ("signers", "holds"),
    [("abc", True), ("abd", True), ("abcd", True), ("ab", False), ("cd", False), ("", False)],
)
def test_a_change_needs_two_thirds_of_the_stake_before(signers: str, holds: bool) -> None:
    # Of 10, 7 is the least that is two thirds.
    new = followed(GENESIS, signers)
    if holds:
        verify_change(GENESIS, new)
    else:
        assert refused(lambda: verify_change(GENESIS, new)) == "not_enough_stake"


def test_the_new_stake_has_no_say_in_its_own_change() -> None:
    rich = [msgspec.structs.replace(one, stake=1_000) for one in GENESIS.candidates[3:]]
    new = followed(GENESIS, "d", candidates=[*GENESIS.candidates[:3], *rich])
    assert refused(lambda: verify_change(GENESIS, new)) == "not_enough_stake"


def test_a_signature_over_another_registry_or_without_the_domain_counts_nothing() -> None:
    new = followed(GENESIS, "ab")
    other = followed(GENESIS, "c", seats={"city": 3})
    borrowed = msgspec.structs.replace(new, signatures=[*new.signatures, *other.signatures])
    assert refused(lambda: verify_change(GENESIS, borrowed)) == "not_enough_stake"
    bare = with_signature(new, "c", KEYS["c"].sign(new.canonical))
    assert refused(lambda: verify_change(GENESIS, bare)) == "not_enough_stake"


def test_a_stranger_s_signature_neither_helps_nor_spoils() -> None:
    new = with_signature(followed(GENESIS, "abc"), "stranger", b"x" * 64)
    verify_change(GENESIS, new)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epoch": 3}, "wrong_epoch"),
        ({"epoch": 1}, "wrong_epoch"),
        ({"previous": "1" * 64}, "wrong_previous"),
    ],
)
def test_a_change_follows_the_very_registry_before(changes: Any, reason: str) -> None:
    new = followed(GENESIS, "abcd", **changes)
    assert refused(lambda: verify_change(GENESIS, new)) == reason


@pytest.mark.parametrize("field", ["stake", "public_key", "address", "level", "delegate_id"])
def test_any_field_changed_after_the_signatures_is_refused(field: str) -> None:
    new = followed(GENESIS, "abcd")
    values = {
        "stake": 9,
        "public_key": b64encode(b"k" * 32).decode(),
        "address": "192.0.2.1:1",
        "level": "global",
        "delegate_id": "z",
    }
    forged_one = msgspec.structs.replace(new.candidates[0], **{field: values[field]})
    forged = msgspec.structs.replace(new, candidates=[forged_one, *new.candidates[1:]])
    assert refused(lambda: verify_chain(GENESIS.digest, [GENESIS, forged])) in (
        "not_enough_stake",
        "no_delegates",
    )


def test_a_chain_holds_from_its_pin_whatever_lies_before() -> None:
    second = followed(GENESIS)
    third = followed(second, "abd", seats={"city": 3})
    chain = [GENESIS, second, third]
    assert verify_chain(GENESIS.digest, chain) == third
    assert verify_chain(second.digest, [second, third]) == third
    assert verify_chain(third.digest, chain) == third
    assert refused(lambda: verify_chain(GENESIS.digest, [second, third])) == "not_pinned"
    assert refused(lambda: verify_chain(GENESIS.digest, [GENESIS, third])) == "wrong_epoch"
    assert refused(lambda: verify_chain(GENESIS.digest, [])) == "not_pinned"
    assert parse_registries(encode_registries(chain)) == chain


def double_vote(name: str = "d", epoch: int = 1, same: bool = False) -> Evidence:
    sender, nonce = bytes(32), 7
    ids = [bytes([1]) * 32, bytes([1 if same else 2]) * 32]
    votes = [
        (
            name,
            one,
            sender,
            nonce,
            KEYS[name].sign(federation_dag.vote_message(epoch, one, sender, nonce)),
        )
        for one in ids
    ]
    if same:
        signatures = [b64encode(vote[4]).decode() for vote in votes]
        return Evidence(
            name,
            epoch,
            sender.hex(),
            nonce,
            (ids[0].hex(), ids[1].hex()),
            (signatures[0], signatures[1]),
        )
    tallies = federation_dag.dpos_parallel_collect(votes, GENESIS.voting_keys(), epoch)
    return evidence_of(tallies[0].double_votes[0], epoch)


def test_proved_evidence_enters_and_stays() -> None:
    second = followed(GENESIS, evidence=[double_vote()])
    third = followed(second)
    assert verify_chain(GENESIS.digest, [GENESIS, second, third]).evidence == second.evidence


@pytest.mark.parametrize("name", ["a", "b"])
def test_evidence_by_either_algorithm_is_proved(name: str) -> None:
    verify_change(GENESIS, followed(GENESIS, evidence=[double_vote(name)]))


@pytest.mark.parametrize(
    "evidence",
    [
        msgspec.structs.replace(double_vote(), nonce=8),
        msgspec.structs.replace(double_vote(), delegate_id="c"),
        double_vote(epoch=1, same=True),
        msgspec.structs.replace(double_vote(), epoch=2),
    ],
)
def test_evidence_that_proves_nothing_is_refused_though_all_sign_it(evidence: Evidence) -> None:
    new = followed(GENESIS, "abcd", evidence=[evidence])
    assert refused(lambda: verify_change(GENESIS, new)) == "bad_evidence"


def test_weights_are_stake_times_uptime_and_nothing_for_a_double_voter() -> None:
    registry = followed(GENESIS, uptime_ppm={"a": 500_000, "b": 0}, evidence=[double_vote("d")])
    assert registry.reward_weights() == {"a": 3 * 500_000, "b": 0, "c": 3 * PPM, "d": 0}


# ── Where it is read from ──────────────────────────────────────────────────────────────────────


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    monkeypatch.setattr(
        registry_source, "record_refusal", lambda **members: records.append(members)
    )
    return records


def secret_of(*chain: Registry, **changes: Any) -> dict[str, Any]:
    last = chain[-1]
    return {
        "epoch": last.epoch,
        "delegates": last.delegates(),
        "registries": msgspec.to_builtins(list(chain)),
        "ca_pem": "PEM",
        **changes,
    }


def test_a_secret_s_delegates_are_taken_when_its_registry_says_so(audited: Any) -> None:
    keeper = SecretKeeper("love/delegates", RegistryKeeper(GENESIS.digest, "test"))
    second = followed(GENESIS, seats={"city": 3})
    assert keeper.take(secret_of(GENESIS)).registry == GENESIS
    taken = keeper.take(secret_of(GENESIS, second))
    assert taken.registry == second
    assert taken.secret["delegates"] == second.delegates()
    assert audited == []


def forged_secrets() -> dict[str, dict[str, Any]]:
    stake = secret_of(GENESIS)
    stake["delegates"][0]["stake"] = 999
    key = secret_of(GENESIS)
    key["delegates"][0]["public_key"] = b64encode(b"k" * 32).decode()
    unsigned = followed(GENESIS, "ab", candidates=[candidate("a", 99)])
    own = msgspec.structs.replace(GENESIS, seats={"city": 1})
    return {
        "stake": stake,
        "key": key,
        "one less": {**secret_of(GENESIS), "delegates": GENESIS.delegates()[1:]},
        "no list": {**secret_of(GENESIS), "delegates": 7},
        "epoch": secret_of(GENESIS, epoch=2),
        "no chain": {**secret_of(GENESIS), "registries": None},
        "empty chain": {**secret_of(GENESIS), "registries": []},
        "an unsigned change": secret_of(GENESIS, unsigned),
        "a genesis of its own": secret_of(own),
    }


@pytest.mark.parametrize("forged", forged_secrets().values(), ids=forged_secrets())
def test_a_forged_secret_is_refused_audited_and_the_last_good_one_kept(
    forged: dict[str, Any], audited: list[dict[str, Any]]
) -> None:
    cold = SecretKeeper("love/delegates", RegistryKeeper(GENESIS.digest, "reward"))
    with pytest.raises(RegistryError):
        cold.take(forged)
    assert [(one["reason"], one["subject"], one["source"]) for one in audited] == [
        ("registry_refused", "love/delegates", "reward")
    ]
    warm = SecretKeeper("love/delegates", RegistryKeeper(GENESIS.digest, "reward"))
    good = warm.take(secret_of(GENESIS))
    assert warm.take(forged) == good
    assert warm.take(forged) == good
    assert len(audited) == 2


def test_an_older_signed_registry_is_refused_by_who_knows_a_later_one(audited: Any) -> None:
    keeper = SecretKeeper("love/delegates", RegistryKeeper(GENESIS.digest, "test"))
    second = followed(GENESIS)
    rival = followed(GENESIS, "abcd", seats={"city": 3})
    keeper.take(secret_of(GENESIS, second))
    for other in (secret_of(GENESIS), secret_of(GENESIS, rival)):
        assert keeper.take(other).registry == second
    assert [one["detail"].split(":")[0] for one in audited] == ["older"]


def test_a_file_is_read_again_after_its_time_and_the_last_good_one_kept(
    tmp_path: Path, audited: list[dict[str, Any]]
) -> None:
    path, now = tmp_path / "registry.json", [0.0]
    keeper = PlaceKeeper(
        str(path), lambda: read_file(path), RegistryKeeper(GENESIS.digest, "t"), lambda: now[0]
    )
    assert refused(lambda: keeper.current(60)) == "unreadable"
    write_file(path, [GENESIS])
    assert keeper.current(60) == GENESIS
    second = followed(GENESIS)
    write_file(path, [GENESIS, second])
    assert keeper.current(60) == GENESIS
    now[0] = 61
    assert keeper.current(60) == second
    path.write_text("{")
    now[0] = 122
    assert keeper.current(60) == second
    assert {one["detail"].split(":")[0] for one in audited} == {"unreadable", "malformed"}


@mock_aws
def test_a_chain_larger_than_a_parameter_comes_out_of_ssm_as_it_went_in() -> None:
    client = boto3.client("ssm", region_name="us-east-1")
    second = followed(GENESIS, "abcd")
    parts = to_parameters("/love/registry/live", second)
    assert len(parts) > 1
    assert max(map(len, parts.values())) <= PARAMETER_CHARACTERS_MAX
    for one in (GENESIS, second, second):
        write_parameters(client, "/love/registry/live", one)
    assert read_parameters(client, "/love/registry/live") == [GENESIS, second]
    assert read_parameters(client, "/love/registry/other") == []
    client.delete_parameter(Name=next(iter(parts)))
    assert read_parameters(client, "/love/registry/live") == [GENESIS]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("/r/x/1-of-1", "AAAA", "malformed"),
        ("/r/1/first", "AAAA", "malformed"),
        ("/r/1/1-of-1", "no base64!", "malformed"),
        ("/r/1/1-of-1", b64encode(b"no zlib").decode(), "malformed"),
        ("/r/1/1-of-1", "", "too_large"),
    ],
)
def test_parameters_that_hold_no_registry_are_refused(name: str, value: str, reason: str) -> None:
    assert refused(lambda: from_parameters({name: value})) == reason


def test_a_small_parameter_can_t_unfold_to_a_huge_registry() -> None:
    import zlib

    bomb = b64encode(zlib.compress(bytes(10**7))).decode()
    assert refused(lambda: from_parameters({"/r/1/1-of-1": bomb})) == "too_large"


def test_keys_for_the_core_are_those_of_the_list() -> None:
    listed = {one["delegate_id"]: b64decode(one["public_key"]) for one in GENESIS.delegates()}
    assert {name: key for name, _, key, _ in GENESIS.voting_keys()} == listed


# ── Who uses it ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def kept_secret(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Lets Secrets Manager's copy be this one, for `reward` and `persist`."""
    from federation import secrets

    monkeypatch.setenv("DELEGATES_SECRET", "love/delegates")
    monkeypatch.setenv("REGISTRY_PIN", GENESIS.digest)
    registry_source._secret_keeper.cache_clear()

    def keep(secret: dict[str, Any]) -> None:
        monkeypatch.setitem(secrets._cache, "love/delegates", (float("inf"), secret))

    return keep


@pytest.mark.parametrize("forged", forged_secrets().values(), ids=forged_secrets())
def test_reward_pays_nobody_by_a_secret_that_was_not_signed(
    forged: dict[str, Any], kept_secret: Any, audited: list[dict[str, Any]]
) -> None:
    import inspect

    from reward import app

    app._settings.cache_clear()
    handle: Any = inspect.unwrap(app.handler)
    kept_secret(forged)
    with pytest.raises(RegistryError):
        handle({"batch_id": "b", "groups": []}, None)
    assert [one["reason"] for one in audited] == ["registry_refused"]
    kept_secret(secret_of(GENESIS))
    assert handle({"batch_id": "b", "groups": []}, None)["rewards"] == []
    kept_secret(forged)
    # The last good one goes on being used.
    assert handle({"batch_id": "b", "groups": []}, None)["rewards"] == []


@pytest.mark.parametrize("forged", forged_secrets().values(), ids=forged_secrets())
def test_persist_knows_no_full_node_that_was_not_signed(
    forged: dict[str, Any], kept_secret: Any, audited: list[dict[str, Any]]
) -> None:
    from persist.readers import delegates_of

    kept_secret(forged)
    pin = GENESIS.digest
    with pytest.raises(RegistryError):
        delegates_of(registry_source.read_delegates("love/delegates", pin, "persist").secret)
    assert [one["source"] for one in audited] == ["persist"]
    kept_secret(secret_of(GENESIS))
    found = delegates_of(registry_source.read_delegates("love/delegates", pin, "persist").secret)
    assert found.keys() == STAKES.keys()
