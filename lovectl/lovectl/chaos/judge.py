"""Proves from a history and from what lies in the stores what became of every transaction.

Pure functions over plain data, in the manner of Jepsen: a history, a checker, a verdict. Nothing
here calls the functions' code: ids by an independent JCS (RFC 8785), signatures and votes by
pyca/cryptography (Ed25519: RFC 8032, ML-DSA: FIPS 204).
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey, MLDSA65PublicKey

from federation.regions import CLUSTERS, Continent
from lovectl.chaos.canonical import canonical_bytes, header_bytes
from lovectl.chaos.evidence import Evidence, Federation, StoredCopy
from lovectl.chaos.history import ACCEPTED, History, Sent

#: `love-vote-v1\0`, epoch, id, sender, nonce: see nodes/README.md.
VOTE_DOMAIN: Final = b"love-vote-v1\0"
_UINT64_BYTES: Final = 8
_KEYS: Final[dict[str, Any]] = {
    "Ed25519": Ed25519PublicKey,
    "ML-DSA-44": MLDSA44PublicKey,
    "ML-DSA-65": MLDSA65PublicKey,
}

#: Every rule by name, and what it promises.
RULES: Final = {
    "lost": "an accepted transaction is stored",
    "duplicated": "it is stored once, but for copies marked as reconciled",
    "rejected": "what was accepted is not rejected afterwards",
    "misnamed": "a 202 names each transaction of its post, by the hash of what was sent",
    "altered": "header, key and signature are byte for byte what the client signed, and it did sign",
    "unreadable": "an independent reader opens the content, and it is what was sent",
    "misplaced": "a record lies in its own continent's cluster, or in the one that it names",
    "false_receipt": "a receipt tells where the transaction lies, and whether it is final",
    "false_vote": "every kept vote is a delegate's signature for this very transaction",
    "false_final": "what is marked final has verified votes worth two thirds of the stake",
    "double_final": "no two final transactions share sender and nonce",
    "false_reward": "a final transaction pays its reward exactly, by stake, to those who voted",
    "stranger": "nothing is stored that this run did not send",
    "damaged": "everything in a store can be read as a record",
    "not_home": "after reconcile a transaction lies in an Atlas cluster",
    "not_final": "after reconcile it is final",
}
#: Why the later one of two transactions that share sender and nonce is refused.
CONFLICT: Final = "nonce_conflict"


class Violation(msgspec.Struct, frozen=True):
    """A rule that one transaction breaks."""

    rule: str
    transaction_id: str
    detail: str


class Judgement(msgspec.Struct, frozen=True):
    """What became of the accepted transactions.

    Attributes
    ----------
    accepted : int
        Without the conceded ones.
    conceded : int
        Accepted for processing, then rejected on record, as another transaction of the same sender
        and nonce is stored.
    lost, duplicated : int
        Transactions, not copies.
    per_tier : mapping of tier to copies that count
    reconciled : int
        Copies that are marked as brought home.
    """

    accepted: int
    stored: int
    final: int
    lost: int
    duplicated: int
    per_tier: dict[str, int]
    reconciled: int
    violations: list[Violation]
    conceded: int = 0

    @property
    def holds(self) -> bool:
        """Whether no rule is broken."""
        return not self.violations


def judge(history: History, evidence: Evidence, federation: Federation) -> Judgement:
    """Hold what lies in the stores against what the client was promised."""
    copies = _copies(history, evidence)
    mine = [copy for found in copies.values() for copy in found]
    conceded = _conceded(history, evidence, copies)
    promised = [one for one in history.accepted_at_ms if one not in conceded]
    violations = [
        *_misnamed(history),
        *(
            Violation("lost", one, "accepted, but in no store")
            for one in promised
            if one not in copies
        ),
        *_twice(copies),
        *_rejected(promised, evidence, copies),
        *(found for copy in mine for found in _copy_faults(copy, history, federation)),
        *_double_final(mine),
        *_false_receipts(history, evidence, copies),
        *(
            Violation("damaged", "", f"{one.tier} {one.place}: {one.what}")
            for one in evidence.damage
        ),
    ]
    live = [copy for copy in mine if not copy.reconciled]
    return Judgement(
        accepted=len(promised),
        stored=sum(one in copies for one in promised),
        final=sum(any(c.final for c in copies.get(one, ())) for one in promised),
        lost=_transactions(violations, "lost"),
        duplicated=_transactions(violations, "duplicated"),
        per_tier={
            tier: sum(c.tier == tier for c in live) for tier in ("atlas", "dynamodb", "immudb")
        },
        reconciled=len(mine) - len(live),
        violations=violations,
        conceded=len(conceded),
    )


def judge_reconciled(history: History, evidence: Evidence) -> list[Violation]:
    """What `reconcile` has left undone, once it says that nothing is left to do.

    Not so a copy whose nonce another transaction holds at home: it is parked for its operator. And
    what shares its nonce with a final one can't become final.
    """
    copies = _copies(history, evidence)
    conceded = _conceded(history, evidence, copies)
    every = [copy for found in copies.values() for copy in found]
    holders = {(copy.sender, copy.nonce): copy.transaction_id for copy in every if copy.final}
    at_home = {(copy.sender, copy.nonce) for copy in every if copy.tier == "atlas"}
    violations = []
    for one in history.accepted_at_ms:
        sent = history.sent.get(one)
        if one in conceded or one not in copies or sent is None:
            continue
        nonce = (sent.document["sender"], sent.document["nonce"])
        if holders.get(nonce, one) != one:
            continue
        if nonce not in at_home:
            violations.append(Violation("not_home", one, f"only in {copies[one][0].tier}"))
        if not any(copy.final for copy in copies[one]):
            violations.append(Violation("not_final", one, "its votes were not collected"))
    return violations


def _copies(history: History, evidence: Evidence) -> dict[str, list[StoredCopy]]:
    copies: defaultdict[str, list[StoredCopy]] = defaultdict(list)
    for copy in evidence.copies:
        if copy.sender in history.senders or copy.transaction_id in history.sent:
            copies[copy.transaction_id].append(copy)
    return dict(copies)


def _conceded(
    history: History, evidence: Evidence, copies: Mapping[str, list[StoredCopy]]
) -> set[str]:
    """Those that lost their nonce to another one, which is stored, and whose refusal is on record."""
    held = {(copy.sender, copy.nonce) for found in copies.values() for copy in found}
    refused = {one.transaction_id for one in evidence.rejections if one.reason == CONFLICT}
    return {
        one
        for one in history.accepted_at_ms
        if one in refused
        and one not in copies
        and one in history.sent
        and (history.sent[one].document["sender"], history.sent[one].document["nonce"]) in held
    }


def _transactions(violations: Iterable[Violation], rule: str) -> int:
    return len({one.transaction_id for one in violations if one.rule == rule})


def _misnamed(history: History) -> Iterator[Violation]:
    for accepted in history.accepted_at_ms:
        if accepted not in history.sent:
            yield Violation("misnamed", accepted, "a 202 named an id that no sent document has")
    for one in history.answers:
        if one.status == ACCEPTED and set(one.claimed) != set(one.sent):
            unnamed = sorted(set(one.sent) - set(one.claimed))
            yield Violation("misnamed", "", f"a 202 leaves out {len(unnamed)}: {unnamed[:1]}")


def _twice(copies: Mapping[str, list[StoredCopy]]) -> Iterator[Violation]:
    for transaction_id, found in copies.items():
        live = [copy for copy in found if not copy.reconciled]
        if len(live) > 1:
            places = ", ".join(f"{copy.tier} {copy.place}".strip() for copy in live)
            yield Violation("duplicated", transaction_id, f"lies in {places}")
        if not live:
            yield Violation("lost", transaction_id, "only copies marked as reconciled are left")


def _rejected(
    promised: Collection[str], evidence: Evidence, copies: Mapping[str, list[StoredCopy]]
) -> Iterator[Violation]:
    for one in evidence.rejections:
        if one.transaction_id in promised:
            beside = "; it is stored too" if one.transaction_id in copies else ""
            yield Violation("rejected", one.transaction_id, f"{one.tier}: {one.reason}{beside}")


def _copy_faults(copy: StoredCopy, history: History, federation: Federation) -> Iterator[Violation]:
    sent = history.sent.get(copy.transaction_id)
    where = f"{copy.tier} {copy.place}".strip()
    if sent is None:
        yield Violation("stranger", copy.transaction_id, f"{where}: of {copy.sender}, never sent")
        return
    for rule, detail in (
        *_altered(copy, sent),
        *_unreadable(copy, sent),
        *_misplaced(copy, sent),
        *_votes_and_rewards(copy, federation),
    ):
        yield Violation(rule, copy.transaction_id, f"{where}: {detail}")


def _altered(copy: StoredCopy, sent: Sent) -> Iterator[tuple[str, str]]:
    try:
        same = canonical_bytes(copy.header) == header_bytes(sent.document)
    except ValueError as error:
        yield "altered", f"its header is no I-JSON: {error}"
        return
    if not same:
        yield "altered", "its header is not what was signed"
    if copy.signature != sent.document["signature"]:
        yield "altered", "another signature"
    if not _is_signed(sent):
        yield "altered", "its sender's signature is not over these bytes"
    if (copy.algorithm, copy.public_key) != (sent.algorithm, sent.public_key):
        yield "altered", "another key"
    if (copy.sender, copy.nonce) != (sent.document["sender"], sent.document["nonce"]):
        yield "altered", "its index fields are not its header's"


def _is_signed(sent: Sent) -> bool:
    try:
        key = _KEYS[sent.algorithm].from_public_bytes(b64decode(sent.public_key, validate=True))
        key.verify(b64decode(sent.document["signature"]), header_bytes(sent.document))
    except (InvalidSignature, ValueError):
        return False
    return True


def _unreadable(copy: StoredCopy, sent: Sent) -> Iterator[tuple[str, str]]:
    if copy.content is None:
        yield "unreadable", copy.unopened or "not opened"
    elif copy.content != sent.document["content"]:
        yield "unreadable", "it opens to another content"


def _misplaced(copy: StoredCopy, sent: Sent) -> Iterator[tuple[str, str]]:
    if copy.continent != sent.home:
        yield "misplaced", f"its home is {sent.home}, not {copy.continent}"
    if copy.tier != "atlas":
        return
    if copy.cluster is None and copy.place != copy.continent:
        yield "misplaced", f"belongs to {copy.continent}"
    if copy.cluster is not None and CLUSTERS.get(Continent(copy.place)) != copy.cluster:
        yield "misplaced", f"says that it lies in {copy.cluster}"


def _votes_and_rewards(copy: StoredCopy, federation: Federation) -> Iterator[tuple[str, str]]:
    voters = set()
    for delegate_id, signature in copy.votes:
        if delegate_id in voters or not _is_vote(copy, delegate_id, signature, federation):
            yield "false_vote", f"of {delegate_id}"
        else:
            voters.add(delegate_id)
    stakes = {one: federation.delegates[one].stake for one in voters}
    voted = sum(stakes.values())
    if copy.final != (3 * voted >= 2 * federation.total_stake):
        yield "false_final", f"final is {copy.final} with {voted} of {federation.total_stake}"
    if copy.stake != voted:
        yield "false_final", f"names a stake of {copy.stake}, its votes are worth {voted}"
    paid = sum(amount for _, amount in copy.rewards)
    owed = federation.reward if copy.final else 0
    if paid != owed:
        yield "false_reward", f"pays {paid}, not {owed}"
    for delegate_id, amount in copy.rewards:
        # By stake, whole milli-LOVE: nobody is more than one away from the exact share.
        exact_by_stake = federation.reward * stakes.get(delegate_id, 0)
        if abs(amount * voted - exact_by_stake) >= max(voted, 1):
            yield "false_reward", f"{delegate_id} has {amount}, which is not its share"


def _is_vote(copy: StoredCopy, delegate_id: str, signature: str, federation: Federation) -> bool:
    delegate = federation.delegates.get(delegate_id)
    if delegate is None:
        return False
    try:
        message = vote_message(federation.epoch, copy.transaction_id, copy.sender, copy.nonce)
        key = _KEYS[delegate.algorithm].from_public_bytes(delegate.public_key)
        key.verify(b64decode(signature, validate=True), message)
    except (InvalidSignature, Base64Error, ValueError):
        return False
    return True


def vote_message(epoch: int, transaction_id: str, sender: str, nonce: int) -> bytes:
    """What a delegate signs; ids are 64 hex digits, integers 64-bit big-endian."""
    return b"".join(
        (
            VOTE_DOMAIN,
            epoch.to_bytes(_UINT64_BYTES, "big"),
            bytes.fromhex(transaction_id),
            bytes.fromhex(sender),
            nonce.to_bytes(_UINT64_BYTES, "big"),
        )
    )


def _double_final(copies: Iterable[StoredCopy]) -> Iterator[Violation]:
    final: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for copy in copies:
        if copy.final:
            final[copy.sender, copy.nonce].add(copy.transaction_id)
    for (sender, nonce), ids in final.items():
        if len(ids) > 1:
            for one in sorted(ids):
                yield Violation("double_final", one, f"{len(ids)} hold {sender}/{nonce}")


def _false_receipts(
    history: History, evidence: Evidence, copies: Mapping[str, list[StoredCopy]]
) -> Iterator[Violation]:
    rejected = {one.transaction_id for one in evidence.rejections}
    for seen in history.receipts:
        lies = copies.get(seen.transaction_id, [])
        why = (
            _receipt_fault(seen.receipt, lies)
            if seen.receipt.get("status") == "stored"
            else ""
            if seen.transaction_id in rejected
            else "no rejection is recorded"
        )
        if seen.receipt.get("transaction_id") != seen.transaction_id:
            why = "it is another transaction's"
        if why:
            yield Violation("false_receipt", seen.transaction_id, why)


def _receipt_fault(receipt: Mapping[str, Any], copies: list[StoredCopy]) -> str:
    """Why it is not true, by the copy in the tier that it names; no copy is taken away in a run."""
    tier = receipt.get("tier")
    named = [copy for copy in copies if copy.tier == tier]
    if not named:
        return f"nothing lies in {tier}"
    for name in ("continent", "shard", "stored_at_ms", "cluster"):
        if all(getattr(copy, name) != receipt.get(name) for copy in named):
            return f"{name} {receipt.get(name)} is not the stored one"
    if receipt.get("final") and not any(copy.final for copy in copies):
        return "it says final, and no copy is"
    return ""
