"""The judge of simulations: an honest run has no violation, each planted one is found by its rule."""

import secrets
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import federation_dag
from lovectl.accounts import Account, sign, unsigned_transaction
from lovectl.chaos.canonical import header_bytes, transaction_id
from lovectl.chaos.evidence import (
    Damage,
    DelegateKey,
    Evidence,
    Federation,
    StoredCopy,
    StoredRejection,
)
from lovectl.chaos.history import Answered, History, Seen, Sent
from lovectl.chaos.judge import RULES, judge, judge_reconciled, vote_message

STAKES = {"light-1": 3, "light-2": 3, "full-1": 1}
REWARD = 1_000
SCENARIO = "honest"


class Run:
    """One accepted transaction, stored and final, which tests then change."""

    def __init__(self, groups: Any) -> None:
        self.keys = {one: Ed25519PrivateKey.generate() for one in STAKES}
        self.federation = Federation(
            1,
            {
                one: DelegateKey(one, "Ed25519", key.public_key().public_bytes_raw(), STAKES[one])
                for one, key in self.keys.items()
            },
            REWARD,
        )
        self.account: Account = groups.account()
        self.document = self.signed()
        self.name = transaction_id(self.document)
        self.events: list[Any] = [
            self.sent(self.document),
            Answered(2, SCENARIO, 202, [self.name], [self.name]),
        ]
        self.copies = [self.copy(self.document)]
        self.rejections: list[StoredRejection] = []
        self.damage: list[Damage] = []

    def signed(self, nonce: int = 0, account: Account | None = None) -> dict[str, Any]:
        account = account or self.account
        to = secrets.token_hex(32)
        return sign(account, unsigned_transaction(account, to, 5, nonce, content={"memo": "ü"}))

    def sent(self, document: dict[str, Any]) -> Sent:
        public_key = self.account.private_key.public_key().public_bytes_raw()
        return Sent(1, SCENARIO, "Europe", "Ed25519", b64encode(public_key).decode(), document)

    def vote(self, delegate_id: str, name: str, nonce: int = 0) -> tuple[str, str]:
        message = vote_message(1, name, self.account.account_id, nonce)
        return delegate_id, b64encode(self.keys[delegate_id].sign(message)).decode()

    def copy(self, document: dict[str, Any], **changes: Any) -> StoredCopy:
        name = transaction_id(document)
        header = {one: document[one] for one in document if one not in ("content", "signature")}
        made = StoredCopy(
            tier="atlas",
            place="Europe",
            transaction_id=name,
            sender=document["sender"],
            nonce=document["nonce"],
            continent="Europe",
            header={**header, "transaction_id": name},
            algorithm="Ed25519",
            public_key=self.sent(document).public_key,
            signature=document["signature"],
            votes=[self.vote(one, name, document["nonce"]) for one in ("light-1", "light-2")],
            stake=6,
            final=True,
            rewards=[("light-1", 500), ("light-2", 500)],
            shard=3,
            stored_at_ms=3,
            content=document["content"],
        )
        return msgspec.structs.replace(made, **changes)

    def change(self, **changes: Any) -> None:
        self.copies[0] = msgspec.structs.replace(self.copies[0], **changes)

    def receipt(self, **changes: Any) -> None:
        receipt = {
            "transaction_id": self.name,
            "status": "stored",
            "tier": "atlas",
            "continent": "Europe",
            "shard": 3,
            "final": True,
            "stored_at_ms": 3,
            "cluster": None,
            **changes,
        }
        self.events.append(Seen(4, SCENARIO, self.name, receipt))

    def broken(self) -> set[str]:
        """The rules that are broken."""
        evidence = Evidence(self.copies, self.rejections, self.damage)
        found = judge(History(self.events), evidence, self.federation)
        assert found.holds == (not found.violations)
        assert {one.rule for one in found.violations} <= RULES.keys()
        return {one.rule for one in found.violations}


@pytest.fixture
def run(groups: Any) -> Run:
    return Run(groups)


def test_an_honest_run_breaks_no_rule(run: Run) -> None:
    run.receipt()
    assert run.broken() == set()


def test_ids_and_signed_bytes_are_those_of_the_rust_core(run: Run) -> None:
    named = federation_dag.name_transaction(msgspec.json.encode(run.document))
    assert named.transaction_id.hex() == run.name
    assert named.signing_bytes == header_bytes(run.document)


def test_a_vote_is_over_the_bytes_that_the_rust_core_makes(run: Run) -> None:
    sender = bytes.fromhex(run.account.account_id)
    expected = federation_dag.vote_message(7, bytes.fromhex(run.name), sender, 9)
    assert vote_message(7, run.name, run.account.account_id, 9) == expected


def test_what_is_in_no_store_is_lost(run: Run) -> None:
    run.copies.clear()
    assert run.broken() == {"lost"}


def test_what_was_not_accepted_may_be_stored_or_not(run: Run) -> None:
    other = run.signed(nonce=1)
    run.events += [run.sent(other), Answered(2, SCENARIO, 503, [transaction_id(other)])]
    assert run.broken() == set()
    run.copies.append(run.copy(other))
    assert run.broken() == set()


def test_two_copies_are_a_duplicate(run: Run) -> None:
    run.copies.append(run.copy(run.document, tier="dynamodb", place=""))
    assert run.broken() == {"duplicated"}


def test_a_copy_that_is_marked_as_reconciled_is_no_duplicate(run: Run) -> None:
    run.copies.append(run.copy(run.document, tier="dynamodb", place="", reconciled=True))
    assert run.broken() == set()


def test_a_transaction_whose_only_copy_is_marked_as_reconciled_is_lost(run: Run) -> None:
    run.change(reconciled=True, tier="immudb", place="")
    assert run.broken() == {"lost"}


def test_a_rejection_of_what_was_accepted_is_found(run: Run) -> None:
    run.rejections.append(
        StoredRejection("atlas", "Europe", run.name, run.account.account_id, "stale_position")
    )
    assert run.broken() == {"rejected"}


def test_a_202_for_an_id_that_no_sent_document_has_is_found(run: Run) -> None:
    run.events.append(Answered(2, SCENARIO, 202, [run.name], ["ab" * 32]))
    assert run.broken() == {"misnamed", "lost"}


def test_a_202_that_leaves_out_a_transaction_of_its_post_is_found(run: Run) -> None:
    other = run.signed(1)
    named = [run.name, transaction_id(other)]
    run.events += [run.sent(other), Answered(2, SCENARIO, 202, named, [run.name])]
    assert run.broken() == {"misnamed"}


def test_what_its_sender_did_not_sign_is_altered(run: Run) -> None:
    run.document["signature"] = run.signed(1)["signature"]
    run.change(signature=run.document["signature"])
    assert run.broken() == {"altered"}


def rival(run: Run) -> dict[str, Any]:
    """Another accepted transaction of the same nonce."""
    other = run.signed()
    name = transaction_id(other)
    run.events += [run.sent(other), Answered(2, SCENARIO, 202, [name], [name])]
    return other


def refusal(run: Run, name: str) -> StoredRejection:
    return StoredRejection("atlas", "Europe", name, run.account.account_id, "nonce_conflict")


def test_of_two_with_one_nonce_the_one_that_is_refused_is_not_lost(run: Run) -> None:
    run.rejections = [refusal(run, transaction_id(rival(run)))]
    assert run.broken() == set()
    found = judge(History(run.events), Evidence(run.copies, run.rejections), run.federation)
    assert (found.accepted, found.stored, found.conceded) == (1, 1, 1)


def test_of_two_with_one_nonce_one_whose_refusal_is_not_recorded_is_lost(run: Run) -> None:
    rival(run)
    assert run.broken() == {"lost"}


def test_a_conflict_over_a_nonce_that_nobody_holds_is_no_reason_to_refuse(run: Run) -> None:
    run.copies = []
    run.rejections = [refusal(run, run.name)]
    assert run.broken() == {"lost", "rejected"}


def left_undone(run: Run) -> set[str]:
    evidence = Evidence(run.copies, run.rejections)
    return {one.rule for one in judge_reconciled(History(run.events), evidence)}


def test_what_is_home_and_final_leaves_nothing_undone(run: Run) -> None:
    assert left_undone(run) == set()


def test_what_reconcile_has_not_brought_home_is_found(run: Run) -> None:
    run.change(tier="dynamodb", place="")
    assert left_undone(run) == {"not_home"}


def test_what_reconcile_has_not_made_final_is_found(run: Run) -> None:
    run.change(final=False, votes=[], stake=0, rewards=[])
    assert left_undone(run) == {"not_final"}


def test_a_copy_whose_nonce_is_held_at_home_may_stay_where_it_is(run: Run) -> None:
    pending: dict[str, Any] = {"final": False, "votes": [], "stake": 0, "rewards": []}
    run.copies.append(run.copy(rival(run), tier="dynamodb", place="", **pending))
    assert left_undone(run) == set()


def test_what_is_final_may_stay_away_from_a_home_where_a_pending_one_holds_its_nonce(
    run: Run,
) -> None:
    run.change(tier="dynamodb", place="")
    pending: dict[str, Any] = {"final": False, "votes": [], "stake": 0, "rewards": []}
    other = rival(run)
    run.copies.append(run.copy(other, **pending))
    assert left_undone(run) == set()
    run.change(tier="dynamodb", place="", **pending)
    assert left_undone(run) == {"not_final"}


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": b64encode(bytes(64)).decode()},
        {"public_key": b64encode(bytes(32)).decode()},
        {"algorithm": "ML-DSA-65"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_signature_or_key_is_altered(run: Run, changes: dict[str, str]) -> None:
    run.change(**changes)
    assert run.broken() == {"altered"}


def test_a_changed_amount_is_altered(run: Run) -> None:
    run.change(header={**run.copies[0].header, "amount": 6})
    assert run.broken() == {"altered"}


def test_a_changed_nonce_of_the_index_is_altered(run: Run) -> None:
    run.change(nonce=1)
    assert "altered" in run.broken()


@pytest.mark.parametrize(
    "changes", [{"content": {"memo": "other"}}, {"content": None, "unopened": "InvalidTag"}]
)
def test_content_that_does_not_open_to_what_was_sent_is_unreadable(
    run: Run, changes: dict[str, Any]
) -> None:
    run.change(**changes)
    assert run.broken() == {"unreadable"}


def test_a_record_in_another_continents_cluster_is_misplaced(run: Run) -> None:
    run.change(place="Asia")
    assert run.broken() == {"misplaced"}


def test_a_guest_that_names_its_cluster_is_not_misplaced(run: Run) -> None:
    run.change(place="MiddleEast", cluster="mongo-me")
    assert run.broken() == set()


def test_a_guest_that_names_another_cluster_is_misplaced(run: Run) -> None:
    run.change(place="MiddleEast", cluster="mongo-asia")
    assert run.broken() == {"misplaced"}


def test_a_record_of_another_home_is_misplaced(run: Run) -> None:
    run.change(place="Asia", continent="Asia")
    assert run.broken() == {"misplaced"}


@pytest.mark.parametrize(
    "changes",
    [
        {"tier": "immudb"},
        {"continent": "Asia"},
        {"shard": 4},
        {"stored_at_ms": 4},
        {"cluster": "mongo-asia"},
        {"transaction_id": "cd" * 32},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_receipt_that_names_another_place_is_false(run: Run, changes: dict[str, Any]) -> None:
    run.receipt(**changes)
    assert run.broken() == {"false_receipt"}


def test_a_receipt_stays_true_once_its_copy_was_brought_home(run: Run) -> None:
    run.copies.append(run.copy(run.document, tier="immudb", place="", reconciled=True))
    run.receipt(tier="immudb")
    assert run.broken() == set()


def test_a_receipt_that_says_final_of_what_is_not_is_false(run: Run) -> None:
    run.change(final=False, votes=[run.vote("light-1", run.name)], stake=3, rewards=[])
    run.receipt(final=True)
    assert run.broken() == {"false_receipt"}


def test_a_receipt_from_before_the_votes_came_is_true(run: Run) -> None:
    run.receipt(final=False)
    assert run.broken() == set()


def test_a_receipt_of_a_rejection_that_nobody_recorded_is_false(run: Run) -> None:
    run.receipt(status="rejected")
    assert run.broken() == {"false_receipt"}


@pytest.mark.parametrize("kind", ["of another transaction", "of a stranger", "twice", "no base64"])
def test_a_vote_that_is_none_is_found(run: Run, kind: str) -> None:
    votes = list(run.copies[0].votes)
    votes.append(
        {
            "of another transaction": run.vote("full-1", "ab" * 32),
            "of a stranger": ("light-9", votes[0][1]),
            "twice": votes[0],
            "no base64": ("full-1", "?"),
        }[kind]
    )
    run.change(votes=votes)
    assert run.broken() == {"false_vote"}


def test_a_transaction_that_is_final_without_two_thirds_is_found(run: Run) -> None:
    run.change(votes=[run.vote("light-1", run.name)], stake=3, rewards=[("light-1", 1_000)])
    assert run.broken() == {"false_final"}


def test_a_transaction_that_has_two_thirds_and_is_not_final_is_found(run: Run) -> None:
    run.change(final=False, rewards=[])
    assert run.broken() == {"false_final"}


def test_a_stake_that_the_votes_are_not_worth_is_found(run: Run) -> None:
    run.change(stake=7)
    assert run.broken() == {"false_final"}


def test_two_final_transactions_of_one_nonce_are_found(run: Run) -> None:
    other = run.signed()
    run.events += [run.sent(other)]
    run.copies.append(run.copy(other))
    assert run.broken() == {"double_final"}


@pytest.mark.parametrize(
    "rewards",
    [
        [("light-1", 500), ("light-2", 499)],
        [("light-1", 500), ("full-1", 500)],
        [("light-1", 502), ("light-2", 498)],
        [],
    ],
)
def test_rewards_that_are_not_exact_or_not_by_stake_are_found(
    run: Run, rewards: list[tuple[str, int]]
) -> None:
    run.change(rewards=rewards)
    assert run.broken() == {"false_reward"}


def test_a_transaction_that_is_not_final_pays_nothing(run: Run) -> None:
    run.change(
        final=False,
        votes=[run.vote("light-1", run.name)],
        stake=3,
        rewards=[("light-1", 1_000)],
    )
    assert run.broken() == {"false_reward"}


def test_what_this_runs_senders_never_sent_is_a_stranger(run: Run) -> None:
    run.copies.append(run.copy(run.signed(nonce=3)))
    assert run.broken() == {"stranger"}


def test_what_others_have_stored_is_left_out_of_account(run: Run, groups: Any) -> None:
    other = groups.account()
    run.copies.append(run.copy(run.signed(account=other)))
    assert run.broken() == set()


def test_what_can_not_be_read_as_a_record_is_damaged(run: Run) -> None:
    run.damage.append(Damage("immudb", "", "a scan failed"))
    assert run.broken() == {"damaged"}
