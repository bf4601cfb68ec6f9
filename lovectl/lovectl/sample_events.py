"""Makes a valid event for each function of `template.yaml`: `python -m lovectl.sample_events [DIRECTORY]`.

They are those of one transaction on its way through the pipeline, made of the stages' own types, keys
and signatures; by default in `events/`, where `sam local invoke --event` takes them from.
"""

import argparse
import json
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

import cert_rust
import federation_dag
import flag_rust
from federation.audit import REFUSED
from federation.batch import Batch, Group, Grouped, InboxMessage, Item
from federation.limits import CONTENT_KEY_LIFETIME_S, CONTENT_KEY_USES_MAX
from federation.regions import Continent
from federation.transaction import Envelope
from lovectl.accounts import Account, Issuer, make_account, sign, unsigned_transaction
from lovectl.delegates import EPOCH, STAKES
from lovectl.paths import REPOSITORY, load_functions

load_functions()

from pop.place import PlaceLimits, prove_places  # noqa: E402
from reward.split import reward_groups  # noqa: E402
from send.intake import Sender, take  # noqa: E402
from shard.grouping import group_by_continent  # noqa: E402

DIRECTORY: Final = REPOSITORY / "events"
SEALING_KEY_ID: Final = "sealing-1"
REWARD: Final = 1_000
API: Final = "arn:aws:execute-api:eu-central-1:000000000000:api/live"
QUEUE: Final = "arn:aws:sqs:eu-central-1:000000000000"
#: Signs a vote's message as the delegate of this id.
SignVote = Callable[[str, bytes], bytes]


def sample_events(
    issuer: Issuer, sealing_public_key: bytes, sign_vote: SignVote
) -> dict[str, dict[str, Any]]:
    """An event for each function, by its logical id in `template.yaml`.

    Parameters
    ----------
    issuer : Issuer
        Its keys are those that `love/trust` names; the token that it signs lives for an hour.
    sealing_public_key : bytes
    sign_vote : callable
    """
    account = make_account(issuer, Continent.EUROPE)
    transaction = sign(
        account,
        unsigned_transaction(account, "ab" * 32, 1_250, 7, content={"memo": "rent"}),
    )
    envelope = _envelope(account, transaction, sealing_public_key)
    sealed = msgspec.structs.replace(envelope, wrapped_key="")
    keys = {envelope.sealed.key_id: envelope.wrapped_key}
    batch = Batch(str(uuid.uuid4()), keys, [Item(sealed)])
    placed, _ = prove_places(batch, PlaceLimits(), {})
    voted = msgspec.structs.replace(placed, items=[_voted(one, sign_vote) for one in placed.items])
    grouped = group_by_continent(voted)
    group = reward_groups(grouped, STAKES, REWARD).groups[0]
    inbox = InboxMessage(keys, [sealed])
    return {
        "AuthorizeFunction": _authorizer_event(account),
        "SendFunction": _api_event(account, transaction),
        "DispatchFunction": _queue_event("inbox", msgspec.json.encode(inbox).decode()),
        "PopFunction": _plain(batch),
        "DposFunction": _plain(placed),
        "ShardFunction": _plain(voted),
        "RewardFunction": _plain(grouped),
        **dict.fromkeys(
            ("PersistAtlasFunction", "PersistDynamodbFunction", "PersistImmudbFunction"),
            _plain(group),
        ),
        "ReconcileFunction": {"action": "gather", "continent": account.continent.value},
        # It reads nothing of its event, which is the scheduler's.
        "CanaryFunction": {},
        "AuditFunction": _queue_event("audit.fifo", json.dumps(_audit_event(account))),
    }


def _plain(value: Batch | Grouped | Group) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain


def _envelope(account: Account, transaction: dict[str, Any], public_key: bytes) -> Envelope:
    raw = account.private_key.public_key().public_bytes_raw()
    sender = Sender(
        account_id=account.account_id,
        algorithm=account.algorithm,
        public_key=b64encode(raw).decode(),
        home_continent=account.continent.value,
        request_id=str(uuid.uuid4()),
    )
    sealer = cert_rust.ContentSealer(
        public_key, SEALING_KEY_ID, CONTENT_KEY_USES_MAX, CONTENT_KEY_LIFETIME_S
    )
    document = json.dumps(transaction).encode()
    [envelope] = take([document], [""], sender, sealer, SEALING_KEY_ID, _now_ms())
    return envelope


def _voted(item: Item, sign_vote: SignVote) -> Item:
    """With the votes of all delegates, and so final."""
    header = item.envelope.header
    message = federation_dag.vote_message(
        EPOCH, bytes.fromhex(header.transaction_id), bytes.fromhex(header.sender), header.nonce
    )
    votes = [(name, b64encode(sign_vote(name, message)).decode()) for name in STAKES]
    return msgspec.structs.replace(
        item,
        votes=votes,
        stake=sum(STAKES.values()),
        final=True,
        flags=flag_rust.merge(item.flags, flag_rust.VERIFIED | flag_rust.VOTED | flag_rust.FINAL),
    )


def _authorizer_event(account: Account) -> dict[str, Any]:
    return {
        "type": "REQUEST",
        "methodArn": f"{API}/POST/api/send_transaction",
        "resource": "/api/send_transaction",
        "path": "/api/send_transaction",
        "httpMethod": "POST",
        **_headers(account.headers()),
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": _request_context({}),
    }


def _api_event(account: Account, transaction: dict[str, Any]) -> dict[str, Any]:
    raw = account.private_key.public_key().public_bytes_raw()
    admitted = {
        "principalId": account.account_id,
        "sender": account.account_id,
        "home_continent": account.continent.value,
        "algorithm": account.algorithm,
        "public_key": b64encode(raw).decode(),
    }
    return {
        "resource": "/api/send_transaction",
        "path": "/api/send_transaction",
        "httpMethod": "POST",
        **_headers({"Content-Type": "application/json"}),
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": _request_context({"authorizer": admitted}),
        "body": json.dumps(transaction),
        "isBase64Encoded": False,
    }


def _headers(fields: dict[str, str]) -> dict[str, Any]:
    several = {name: [value] for name, value in fields.items()}
    return {"headers": fields, "multiValueHeaders": several}


def _request_context(more: dict[str, Any]) -> dict[str, Any]:
    return {
        "requestId": str(uuid.uuid4()),
        "stage": "live",
        "httpMethod": "POST",
        "resourcePath": "/api/send_transaction",
        "identity": {"sourceIp": "192.0.2.1"},
        **more,
    }


def _queue_event(queue: str, body: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": str(uuid.uuid4()),
                "receiptHandle": "AQEB",
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": str(_now_ms()),
                },
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": f"{QUEUE}:{queue}",
                "awsRegion": "eu-central-1",
            }
        ]
    }


def _audit_event(account: Account) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "authorize",
        "type": REFUSED,
        "subject": account.account_id,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": {"reason": "token_expired", "request_id": str(uuid.uuid4()), "detail": ""},
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def fresh_events() -> dict[str, dict[str, Any]]:
    """Events of keys that nobody keeps: whole and rightly signed, by strangers."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from lovectl.pki import FederationCa

    issuer = Issuer(
        ca=FederationCa.create(),
        token_key=Ed25519PrivateKey.generate(),
        token_key_id="sample-1",  # noqa: S106
        token_issuer="https://issuer.love.example",  # noqa: S106
        token_audience="https://api.love.example",  # noqa: S106
    )
    votes = {name: Ed25519PrivateKey.generate() for name in STAKES}
    _, public_key = cert_rust.hybrid_keygen()
    return sample_events(issuer, public_key, lambda name, message: votes[name].sign(message))


def write_events(directory: Path, events: dict[str, dict[str, Any]]) -> None:
    """Write each into a file of its function's name, such as `PopFunction.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, event in events.items():
        (directory / f"{name}.json").write_text(json.dumps(event, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write fresh events."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("directory", type=Path, nargs="?", default=DIRECTORY)
    write_events(options.parse_args(arguments).directory, fresh_events())


if __name__ == "__main__":
    main()
