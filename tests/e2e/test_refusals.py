"""Bad requests in one table: each is refused with its status, in one form, audited once, and stores nothing."""

import datetime
import json
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from federation.limits import (
    QUERY_AGE_S_MAX,
    QUERY_AHEAD_S_MAX,
    REQUEST_BATCH_ITEMS_MAX,
    REQUEST_BODY_BYTES_MAX,
    SECRET_TTL_S,
)
from federation.message_signatures import content_digest
from lovectl import audit_commands
from lovectl.access import Access
from lovectl.accounts import sign, unsigned_transaction
from lovectl.checker import read_copies
from lovectl.pki import AccountKey, FederationCa
from lovectl.queries import Node, sign_query

SEND, SEND_BATCH = "api/send_transaction", "api/send_transactions"
DAY = datetime.timedelta(days=1)
LIGHT_NODE = "node-tokyo"
SECURITY_HEADERS = (
    "cache-control",
    "content-security-policy",
    "referrer-policy",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
)

INBOX_TIMEOUT_S = 60.0

#: The API, somebody who calls it, and what was audited of it; made by the fixture `bench`.
Bench = Any


# ── how each is spoilt ──────────────────────────────────────────────────────────────────────────


def without(*names: str) -> Callable[[Bench], httpx.Response]:
    def call(bench: Bench) -> httpx.Response:
        kept = {k: v for k, v in bench.sender.headers().items() if k not in names}
        return bench.post(kept)

    return call


def claims(**changes: Any) -> Callable[[Bench], httpx.Response]:
    return lambda bench: bench.post(bench.token(**changes))


def raw_public_key(bench: Bench) -> bytes:
    return bench.access.issuer.token_key.public_key().public_bytes_raw()


def tampered(bench: Bench) -> httpx.Response:
    header, _, signature = bench.sender.token.split(".")
    good = jwt.decode(bench.sender.token, options={"verify_signature": False})
    payload = urlsafe_b64encode(json.dumps({**good, "exp": good["exp"] + 60}).encode())
    return bench.post(bench.bearing(f"{header}.{payload.rstrip(b'=').decode()}.{signature}"))


def nested(bench: Bench) -> httpx.Response:
    header = urlsafe_b64encode(b"[" * 2900).rstrip(b"=").decode()
    return bench.post(bench.bearing(f"{header}.e30.AA"))


def of_another_subject(bench: Bench) -> httpx.Response:
    return bench.post(bench.token(sub=bench.account().account_id))


def expired(ca: FederationCa, key: AccountKey) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    return der(ca.issue(key, "Europe", not_before=now - 2 * DAY, not_after=now - DAY))


def not_yet_valid(ca: FederationCa, key: AccountKey) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    return der(ca.issue(key, "Europe", not_before=now + DAY, not_after=now + 2 * DAY))


def of_another_ca(ca: FederationCa, key: AccountKey) -> bytes:
    del ca
    return der(FederationCa.create("Another CA").issue(key, "Europe"))


def of_a_ca_of_the_same_name(ca: FederationCa, key: AccountKey) -> bytes:
    name = ca.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    return der(FederationCa.create(str(name)).issue(key, "Europe"))


def not_for_signatures(ca: FederationCa, key: AccountKey) -> bytes:
    return der(ca.issue(key, "Europe", digital_signature=False))


def signed_by_ed25519(ca: FederationCa, key: AccountKey) -> bytes:
    """As the federation's CA would have made it, but for the algorithm."""
    good = ca.issue(key, "Europe")
    builder = (
        x509.CertificateBuilder()
        .subject_name(good.subject)
        .issuer_name(good.issuer)
        .public_key(key)
        .serial_number(good.serial_number)
        .not_valid_before(good.not_valid_before_utc)
        .not_valid_after(good.not_valid_after_utc)
    )
    for extension in good.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return der(builder.sign(Ed25519PrivateKey.generate(), None))


def self_signed(ca: FederationCa, key: AccountKey) -> bytes:
    """The CA's own certificate shown as an account's."""
    del key
    return ca.certificate_der


def cut_off(ca: FederationCa, key: AccountKey) -> bytes:
    return der(ca.issue(key, "Europe"))[:-10]


def with_a_changed_byte(ca: FederationCa, key: AccountKey) -> bytes:
    whole = bytearray(der(ca.issue(key, "Europe")))
    whole[-1] ^= 1
    return bytes(whole)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def revoked(bench: Bench) -> httpx.Response:
    serial = x509.load_der_x509_certificate(bench.sender.certificate).serial_number
    bench.access.revoke(serial)
    deadline_s = time.monotonic() + SECRET_TTL_S + 15
    # Asking for what isn't there changes nothing, however often.
    while time.monotonic() < deadline_s:
        response = bench.get({}, "0" * 64)
        if response.status_code != 404:
            return bench.post(bench.sender.headers())
        time.sleep(1)
    return response


def certified(
    certify: Callable[[FederationCa, AccountKey], bytes],
) -> Callable[[Bench], httpx.Response]:
    return lambda bench: bench.certified(certify)


def client_cert(value: str) -> Callable[[Bench], httpx.Response]:
    return lambda bench: bench.post({**bench.sender.headers(), "Client-Cert": value})


def of_another_account(bench: Bench) -> httpx.Response:
    return bench.post(bench.sender.headers(), bench.document(bench.account()))


def changed(**changes: Any) -> Callable[[Bench], httpx.Response]:
    return lambda bench: bench.post(bench.sender.headers(), bench.document(**changes))


def signed_by_another_key(algorithm: Any) -> Callable[[Bench], httpx.Response]:
    def call(bench: Bench) -> httpx.Response:
        one, other = bench.account(algorithm=algorithm), bench.account(algorithm=algorithm)
        good = bench.document(one)
        forged = sign(other, {name: good[name] for name in good if name != "signature"})
        return bench.post(one.headers(), forged)

    return call


def signed_over_something_else(bench: Bench) -> httpx.Response:
    other = bench.document()
    return bench.post(bench.sender.headers(), bench.document(signature=other["signature"]))


def one_of_three(bench: Bench) -> httpx.Response:
    documents = [
        sign(bench.sender, unsigned_transaction(bench.sender, secrets.token_hex(32), 5, nonce))
        for nonce in range(3)
    ]
    documents[1]["amount"] = 6
    body = {"transactions": documents}
    return bench.call("POST", SEND_BATCH, json=body, headers=bench.sender.headers())


def query(**options: Any) -> Callable[[Bench], httpx.Response]:
    return lambda bench: bench.get(bench.query(**options))


def query_by(delegate_id: str) -> Callable[[Bench], httpx.Response]:
    return lambda bench: bench.get(sign_query(bench.node(delegate_id), bench.stored_id))


def query_as(**changes: Any) -> Callable[[Bench], httpx.Response]:
    """Signed by the full node's key, but as another than it is."""

    def call(bench: Bench) -> httpx.Response:
        node = bench.node()
        posing = Node(**{**node.__dict__, **changes})
        return bench.get(sign_query(posing, bench.stored_id))

    return call


def query_of_another(bench: Bench) -> httpx.Response:
    return bench.get(sign_query(bench.node(), "ab" * 32))


def query_changed(name: str, old: str, new: str) -> Callable[[Bench], httpx.Response]:
    def call(bench: Bench) -> httpx.Response:
        fields = bench.query()
        assert old in fields[name]
        return bench.get({**fields, name: fields[name].replace(old, new, 1)})

    return call


def query_without(name: str) -> Callable[[Bench], httpx.Response]:
    return lambda bench: bench.get({k: v for k, v in bench.query().items() if k != name})


def replayed(bench: Bench) -> httpx.Response:
    fields = bench.query()
    assert bench.get(fields).status_code == 200
    return bench.get(fields)


def replayed_by_another(bench: Bench) -> httpx.Response:
    fields = bench.query()
    assert bench.get(fields).status_code == 200
    bench.sender = bench.account()
    return bench.get(fields)


def too_much(bench: Bench) -> httpx.Response:
    # What a batch costs is counted before it is looked at.
    junk = {"transactions": [{}] * REQUEST_BATCH_ITEMS_MAX}
    for _ in range(100):
        response = bench.call("POST", SEND_BATCH, json=junk, headers=bench.sender.headers())
        if response.status_code != 400:
            break
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["ratelimit-policy"] == '"sender";q=1000;w=10'
    return response


def body(
    content: bytes, content_type: str | None = "application/json", **more: str
) -> Callable[[Bench], httpx.Response]:
    def call(bench: Bench) -> httpx.Response:
        headers = {**bench.sender.headers(), **more}
        if content_type is not None:
            headers["Content-Type"] = content_type
        return bench.call("POST", SEND, content=content, headers=headers)

    return call


def request(method: str, path: str, **more: str) -> Callable[[Bench], httpx.Response]:
    return lambda bench: bench.call(method, path, headers={**bench.sender.headers(), **more})


def too_large(bench: Bench) -> httpx.Response:
    padding = {"salt": "0" * 32, "padding": "x" * REQUEST_BODY_BYTES_MAX}
    unsigned = unsigned_transaction(bench.sender, secrets.token_hex(32), 100, 0, content=padding)
    return bench.post(bench.sender.headers(), sign(bench.sender, unsigned))


def too_many(bench: Bench) -> httpx.Response:
    junk = {"transactions": [{}] * (REQUEST_BATCH_ITEMS_MAX + 1)}
    return bench.call("POST", SEND_BATCH, json=junk, headers=bench.sender.headers())


def twice_the_same_member(bench: Bench) -> httpx.Response:
    text = json.dumps(bench.document()).replace('"nonce": 0', '"nonce": 0, "nonce": 1')
    return body(text.encode())(bench)


# ── the table ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Row:
    """One bad request; `reason` is None where it is not about access."""

    name: str
    call: Callable[[Bench], httpx.Response]
    status: int
    reason: str | None = None


#: When the tests were collected; distances are large, as they may run much later.
NOW_S = int(time.time())
NOBODY = Ed25519PrivateKey.generate()
P256 = ec.generate_private_key(ec.SECP256R1())
X5T = "x5t#S256"

TOKENS = [
    Row("no token", without("Authorization"), 401, "token_missing"),
    Row("neither token nor certificate", without("Authorization", "Client-Cert"), 401,
        "certificate_missing"),
    Row("a token of another scheme",
        lambda b: b.post({**b.sender.headers(), "Authorization": "Basic bG92ZTpsb3Zl"}),
        401, "token_malformed"),
    Row("a token without text",
        lambda b: b.post({**b.sender.headers(), "Authorization": "Bearer"}), 401,
        "token_malformed"),
    Row("no JWT", lambda b: b.post(b.bearing("nonsense")), 401, "token_malformed"),
    Row("two parts of a JWT", lambda b: b.post(b.bearing(b.sender.token.rsplit(".", 1)[0])), 401,
        "token_malformed"),
    Row("a token above the limit", lambda b: b.post(b.bearing("a" * 5000)), 401, "token_malformed"),
    Row("a token nested beyond reason", nested, 401, "token_malformed"),
    Row("alg none", lambda b: b.post(b.signed(None, "none")), 401, "token_algorithm"),
    Row("HS256 with the public key as secret",
        lambda b: b.post(b.signed(raw_public_key(b), "HS256")), 401, "token_algorithm"),
    Row("ES256 under the kid of an Ed25519 key", lambda b: b.post(b.signed(P256, "ES256")), 401,
        "token_algorithm"),
    Row("a kid that the issuer does not have",
        lambda b: b.post(b.signed(b.access.issuer.token_key, "EdDSA", kid="made-up")), 401,
        "token_key_unknown"),
    Row("another key under the issuer's kid", lambda b: b.post(b.signed(NOBODY, "EdDSA")), 401,
        "token_signature"),
    Row("a key in the token's own header",
        lambda b: b.post(b.signed(NOBODY, "EdDSA", jwk={"kty": "OKP"}, jku="https://x.example")),
        401, "token_signature"),
    Row("typ JWT", lambda b: b.post(b.signed(b.access.issuer.token_key, "EdDSA", typ="JWT")), 401,
        "token_type"),
    Row("claims changed after signing", tampered, 401, "token_signature"),
    Row("expired", claims(exp=NOW_S - 60, iat=NOW_S - 120), 401, "token_expired"),
    Row("not yet valid", claims(nbf=NOW_S + 86_400), 401, "token_not_yet_valid"),
    Row("issued in the future", claims(iat=NOW_S + 86_400, exp=NOW_S + 86_700), 401,
        "token_not_yet_valid"),
    Row("longer-lived than allowed", claims(exp=NOW_S + 864_000), 401, "token_lifetime"),
    Row("of another issuer", claims(iss="https://elsewhere.example"), 401, "token_issuer"),
    Row("for another audience", claims(aud="https://elsewhere.example"), 401, "token_audience"),
    Row("without cnf", claims(cnf=None), 401, "token_claim_missing"),
    Row("without jti", claims(jti=None), 401, "token_claim_missing"),
    Row("bound to another certificate", claims(cnf={X5T: "A" * 43}), 401, "token_bound_elsewhere"),
    Row("bound to a key, not to a certificate", claims(cnf={"jkt": "A" * 43}), 401,
        "token_bound_elsewhere"),
    Row("another's token",
        lambda b: b.post(b.bearing(b.account().token)), 401, "token_bound_elsewhere"),
    Row("of another subject", of_another_subject, 403, "not_the_account"),
]  # fmt: skip
CERTIFICATES = [
    Row("no certificate", without("Client-Cert"), 401, "certificate_missing"),
    Row("a certificate that is no byte sequence", client_cert("garbage"), 401,
        "certificate_malformed"),
    Row("a certificate that is not base64", client_cert(":!!!:"), 401, "certificate_malformed"),
    Row("another's certificate",
        lambda b: b.post({**b.sender.headers(),
                          "Client-Cert": b.account().headers()["Client-Cert"]}),
        401, "token_bound_elsewhere"),
    Row("bytes that are no certificate", certified(lambda ca, key: b"love"), 403,
        "certificate_malformed"),
    Row("a certificate cut off", certified(cut_off), 403, "certificate_malformed"),
    Row("of another CA", certified(of_another_ca), 403, "certificate_wrong_issuer"),
    Row("of another CA of the same name", certified(of_a_ca_of_the_same_name), 403,
        "certificate_bad_signature"),
    Row("with a changed byte", certified(with_a_changed_byte), 403, "certificate_bad_signature"),
    Row("signed by Ed25519 in the CA's name", certified(signed_by_ed25519), 403,
        "certificate_bad_signature"),
    Row("the CA's own certificate", certified(self_signed), 403, "certificate_wrong_key_usage"),
    Row("an expired certificate", certified(expired), 403, "certificate_expired"),
    Row("a certificate that is not valid yet", certified(not_yet_valid), 403,
        "certificate_not_yet_valid"),
    Row("a certificate that is not for signatures", certified(not_for_signatures), 403,
        "certificate_wrong_key_usage"),
    Row("a revoked certificate", revoked, 403, "certificate_revoked"),
]  # fmt: skip
TRANSACTIONS = [
    Row("another account's transaction", of_another_account, 403, "not_the_sender"),
    Row("an amount changed after signing", changed(amount=101), 422, "bad_signature"),
    Row("a recipient changed after signing", changed(recipient="ab" * 32), 422, "bad_signature"),
    Row("content changed after signing", changed(content={"salt": "0" * 32}), 422,
        "bad_signature"),
    Row("no signature", changed(signature=""), 422, "bad_signature"),
    Row("a signature of zeros", changed(signature=b64encode(bytes(64)).decode()), 422,
        "bad_signature"),
    Row("a signature over another transaction", signed_over_something_else, 422, "bad_signature"),
    Row("Ed25519 by another key", signed_by_another_key("Ed25519"), 422, "bad_signature"),
    Row("ML-DSA-65 by another key", signed_by_another_key("ML-DSA-65"), 422, "bad_signature"),
    Row("ML-DSA-44 by another key", signed_by_another_key("ML-DSA-44"), 422, "bad_signature"),
    Row("one bad signature among three", one_of_three, 422, "bad_signature"),
    Row("above the rate", too_much, 429, "rate_limited"),
]  # fmt: skip
INPUT = "Signature-Input"
QUERIES = [
    Row("another's record, unsigned", lambda b: b.get({}), 403, "not_a_party"),
    Row("by a light node", query_by(LIGHT_NODE), 403, "not_a_full_node"),
    Row("by a key that is not the full node's", query_as(key=NOBODY), 403, "bad_query_signature"),
    Row("by a node that nobody knows", query_as(delegate_id="node-nowhere"), 403,
        "bad_query_signature"),
    Row("by the full node in a light one's name", query_as(delegate_id=LIGHT_NODE), 403,
        "bad_query_signature"),
    Row("under another algorithm's name", query_as(algorithm="ML-DSA-65"), 403,
        "bad_query_signature"),
    Row("made too long ago", query(created_s=NOW_S - QUERY_AGE_S_MAX - 60), 403, "stale_query"),
    Row("made in the future", query(created_s=NOW_S + QUERY_AHEAD_S_MAX + 86_400), 403,
        "stale_query"),
    Row("used before", replayed, 403, "replayed_query"),
    Row("used before, by another account", replayed_by_another, 403, "replayed_query"),
    Row("of another record's path", query_of_another, 403, "bad_query_signature"),
    Row("of another method", query(method="DELETE"), 403, "bad_query_signature"),
    Row("with a component twice", query_changed(INPUT, '("@method"', '("@method" "@method"'), 403,
        "bad_query_signature"),
    Row("without the path", query_changed(INPUT, ' "@path"', ""), 403, "bad_query_signature"),
    Row("with the time changed", query_changed(INPUT, "created=1", "created=2"), 403,
        "bad_query_signature"),
    Row("without a nonce", query_changed(INPUT, ";nonce=", ";tag="), 403, "bad_query_signature"),
    Row("with another digest",
        lambda b: b.get({**b.query(), "Content-Digest": content_digest(b"love")}), 403,
        "bad_query_signature"),
    Row("with a long signature", query_changed("Signature", "love=:", "love=:AAAA"), 403,
        "bad_query_signature"),
    Row("with a short signature", lambda b: b.get({**b.query(), "Signature": "love=:AAAA:"}), 403,
        "bad_query_signature"),
    Row("with two labels", query_changed(INPUT, "love=", "more=(), love="), 403,
        "bad_query_signature"),
    Row("without its input", query_without(INPUT), 403, "bad_query_signature"),
    Row("without its signature", query_without("Signature"), 403, "bad_query_signature"),
]  # fmt: skip
FORMS = [
    Row("a body above the limit", too_large, 413),
    Row("too many transactions", too_many, 422),
    Row("not JSON", body(b"love"), 400),
    Row("no body", body(b""), 400),
    Row("a member twice", twice_the_same_member, 400),
    Row("XML", body(b"<love/>", "application/xml"), 415),
    Row("a form", body(b"amount=1", "application/x-www-form-urlencoded"), 415),
    Row("JSON in another charset", body(b"{}", "application/json; charset=utf-16"), 415),
    Row("no content type", body(b"{}", None), 415),
    Row("a compressed body", body(b"{}", **{"Content-Encoding": "gzip"}), 415),
    Row("an unknown query parameter", request("GET", "api/health?verbose=1"), 400),
    Row("a query at a read", request("GET", f"api/transaction/{'a' * 64}?as=admin"), 400),
    Row("an id that is too short", request("GET", "api/transaction/abc"), 400),
    Row("an id in capitals", request("GET", f"api/transaction/{'A' * 64}"), 400),
    Row("an id of control characters", request("GET", "api/transaction/%00%0d%0a"), 404),
    Row("a path that is too long", request("GET", f"api/transaction/{'a' * 300}"), 414),
    Row("header fields that are too long", request("GET", "api/health", **{"X-A": "a" * 17_000}),
        431),
    Row("a path that is not there", request("GET", "api/secrets"), 404),
    Row("a method that is not there", request("DELETE", f"api/transaction/{'a' * 64}"), 404),
]  # fmt: skip
TABLE = [
    pytest.param(row, id=f"{kind}: {row.name}")
    for kind, rows in (
        ("token", TOKENS),
        ("certificate", CERTIFICATES),
        ("transaction", TRANSACTIONS),
        ("query", QUERIES),
        ("form", FORMS),
    )
    for row in rows
]


@pytest.fixture(scope="module")
def refused_senders() -> set[str]:
    """Whose transactions must not be stored: everybody of whom the table sends one."""
    return set()


@pytest.mark.parametrize("row", TABLE)
def test_a_bad_request_is_refused_and_audited_once(
    row: Row, bench: Bench, refused_senders: set[str]
) -> None:
    response = row.call(bench)

    assert response.status_code == row.status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    problem = response.json()
    assert problem["status"] == row.status
    assert problem["title"]
    assert problem["detail"]
    assert "content" not in problem
    for name in SECURITY_HEADERS:
        assert name in response.headers, name
    records = bench.records()
    assert [one["why"] for one in records] == ([row.reason] if row.reason else [])
    for record in records:
        assert record["where"] == "127.0.0.1"
        assert record["detail"]
        # MiniStack tells an authorizer no id of the request: the trail has the invocation's then.
        assert record["request_id"]
        assert record["source"] == "/functions/authorize" or (
            record["request_id"] == problem["request_id"]
        )
    refused_senders.update(bench.senders)


def test_nothing_of_all_this_was_stored(access: Access, refused_senders: set[str]) -> None:
    # To store takes a while after the answer: it has come to its end when the inbox is empty.
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    ends_s = time.monotonic() + INBOX_TIMEOUT_S
    while True:
        found = access.aws("sqs").get_queue_attributes(
            QueueUrl=access.outputs["InboxQueueUrl"], AttributeNames=names
        )
        if not any(int(found["Attributes"][name]) for name in names):
            break
        assert time.monotonic() < ends_s, "the inbox does not become empty"
        time.sleep(0.2)
    assert len(refused_senders) >= len(TABLE)
    assert {copy.sender for copy in read_copies(access.stores)}.isdisjoint(refused_senders)


def test_the_table_is_as_long_as_it_should_be() -> None:
    names = [row.id for row in TABLE]
    assert len(names) == len(set(names)) >= 40


def test_the_audit_trail_of_all_this_is_whole(access: Access) -> None:
    del access  # the stack must be up; whatever ran before, all that was logged is there
    done = CliRunner().invoke(audit_commands.app, ["verify", "--logs", "--name", "tests", "--json"])
    report = json.loads(done.stdout)
    assert (done.exit_code, report["verdict"], report["findings"]) == (0, "whole", [])
    assert report["logged_but_not_in_trail"] == []
    assert report["entries"] >= report["logged"] > 0
