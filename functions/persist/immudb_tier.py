"""Tier 3: immuDB, one transaction a batch, its conditions checked by the server, verified."""

import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from federation.audit import record_store_refusal
from federation.breaker import BreakerState, StoreBreakers, calling_as
from federation.immudb_session import (
    ConditionFailed,
    Found,
    ImmudbSession,
    ImmudbUnavailable,
    LoginRefused,
    ProofFailed,
    RecordCorrupted,
    absent,
)
from federation.limits import BREAKER_PATIENCE_LAST_TIER_S
from federation.secrets import read_secret
from federation.settings import load_settings
from persist.breaker_changes import note_change
from persist.customer_keys import CustomerKeys
from persist.kms_encryption import KmsEncryption
from persist.login import Handshake, note_failure
from persist.record import Record, RecordDamaged, Rejection, as_text
from persist.tier import (
    Allowance,
    ContentDamaged,
    Entry,
    Inserted,
    Part,
    TierUnavailable,
    asked_part,
    part_of,
    reject_in_chunks,
)

#: immuDB takes at most 1,024 entries in a transaction; a record is two: itself and its nonce.
RECORDS_MAX: Final = 500
#: And as many conditions; a rejection has two: of itself and of its transaction.
REJECTIONS_MAX: Final = 500
ROUNDS_MAX: Final = 4

Result = TypeVar("Result")


class Unproved(TierUnavailable):
    """What immuDB answers is not proved: this entry is damaged, or its whole history is another."""


class ImmudbSettings(msgspec.Struct, frozen=True):
    """Where immuDB's access is kept, which keys, and how long it is waited for."""

    immudb_secret: str
    kms_key_arns: str
    kms_keys_parameter: str = ""
    persist_timeout_ms: int = 150
    #: As the time-out, so that a slow answer opens nothing: behind the last tier there is nothing.
    persist_slow_ms: int = 150
    cold_timeout_ms: int = 500
    kms_timeout_ms: int = 150
    breaker_patience_s: float = BREAKER_PATIENCE_LAST_TIER_S


class _Stored(msgspec.Struct, frozen=True):
    """What lies under a transaction's key; `content` is base64."""

    transaction_id: str
    sender: str
    nonce: int
    continent: str
    record: Record
    content: str


class ImmudbTier:
    """The last tier.

    Parameters
    ----------
    access : callable
        Gives the secret `love/immudb`; asked for each session, so that a new certificate or
        password is used without a restart.
    timeout_s, cold_timeout_s : float
        For a call, and for the first one of a session; a write's calls have a few times as long
        together.
    breakers : StoreBreakers, optional
        Of the store.
    """

    def __init__(
        self,
        access: Callable[[], Mapping[str, Any]],
        encryption: KmsEncryption,
        timeout_s: float,
        cold_timeout_s: float,
        breakers: StoreBreakers | None = None,
    ) -> None:
        self._access = access
        self._session = ImmudbSession(access, "database", timeout_s, cold_timeout_s)
        self._timeout_s = timeout_s
        self._cold_timeout_s = cold_timeout_s
        self._encryption = encryption
        self._breakers = breakers or StoreBreakers("immudb", BREAKER_PATIENCE_LAST_TIER_S)

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        """All in one transaction, if no key of it exists; else those whose keys don't."""
        if self._breakers.current.refuses():  # before anything is encrypted
            raise TierUnavailable(f"immuDB: {self._breakers.current.resting()}")
        stored: dict[str, Record] = {}
        conflicts: set[str] = set()
        contested: set[str] = set()
        for start in range(0, len(records), RECORDS_MAX):
            waiting = {
                record.transaction_id: (record, self._value(record, sealed))
                for record, sealed in records[start : start + RECORDS_MAX]
            }
            try:
                self._insert_chunk(waiting, stored, conflicts, contested)
            except TierUnavailable:
                if not stored and not conflicts:
                    raise
                break
        return Inserted(stored, frozenset(conflicts), frozenset(contested))

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        """All in one transaction, if no key of it exists; else those whose keys don't."""
        allowance = self._allowance()
        return reject_in_chunks(
            rejections,
            REJECTIONS_MAX,
            lambda waiting, kept: self._reject_chunk(waiting, kept, allowance),
        )

    def _reject_chunk(
        self,
        waiting: dict[str, Rejection],
        kept: dict[str, Record | Rejection],
        allowance: Allowance,
    ) -> None:
        """Move from `waiting` to `kept` whatever is known to hold."""
        for _ in range(ROUNDS_MAX):
            if not waiting:
                return
            entries = {
                _key("rejection", one): msgspec.json.encode(it) for one, it in waiting.items()
            }
            # What is stored is not taken back: the server looks after that too.
            others = [_key("transaction", one) for one in waiting]
            try:
                self._set(entries, allowance, others)
            except ConditionFailed:
                self._settle_rejections(waiting, kept, allowance)
                continue
            kept.update(waiting)
            return
        if waiting:
            raise TierUnavailable("immuDB: other writers kept these rejections busy")

    def _settle_rejections(
        self,
        waiting: dict[str, Rejection],
        kept: dict[str, Record | Rejection],
        allowance: Allowance,
    ) -> None:
        """Take out those whose transaction is stored, then those that are recorded already."""
        for kind in ("transaction", "rejection"):
            found: dict[bytes, Found] = {}
            keys = {_key(kind, one): one for one in waiting}
            try:
                self._verify_all(keys, found, allowance)
            finally:
                for key, one in found.items():
                    kept[keys[key]] = _held(kind, one.value)
                    del waiting[keys[key]]

    def fetch(
        self, transaction_id: str, continent: str | None
    ) -> tuple[Record, bytes] | Rejection | None:
        """A verified read: the server proves that the value belongs to its unbroken history."""
        return self.fetch_as("transaction", transaction_id) or self.fetch_as(
            "rejection", transaction_id
        )

    def fetch_as(
        self, kind: Literal["transaction", "rejection"], transaction_id: str
    ) -> tuple[Record, bytes] | Rejection | None:
        """A verified read of the one or of the other.

        Raises
        ------
        TierUnavailable
            `Unproved` among them.
        RecordDamaged
        """
        try:
            value = self._verified(_key(kind, transaction_id))
        except ContentDamaged as error:
            raise RecordDamaged(transaction_id, error.detail) from error
        if value is None:
            return None
        if kind == "rejection":
            return msgspec.json.decode(value, type=Rejection)
        return self._entry(value)

    def within_session(self, work: Callable[[ImmudbSession], Result]) -> Result:
        """Do `work` behind the breaker.

        Raises
        ------
        TierUnavailable
            `ContentDamaged` or `Unproved`, if that is all that is wrong.
        ConditionFailed
            A precondition of what was to be set does not hold.
        """
        return self._guarded(lambda: work(self._session))

    def canary(self, entries: Mapping[str, Entry]) -> Mapping[str, Entry | TierUnavailable]:
        """Under one key a continent (`canary:…`), the last value over the one before."""
        return {continent: self._canary(continent, *one) for continent, one in entries.items()}

    def _canary(self, continent: str, record: Record, sealed: bytes) -> Entry | TierUnavailable:
        key = _key("canary", continent)
        try:
            value = self._value(record, sealed)
            self._guarded(lambda: self._session.set({key: value}, []))
            with calling_as("read"):
                found = self._verified(key)
                if found is None:
                    return TierUnavailable("immuDB: what was written is not there")
                return self._entry(found)
        except TierUnavailable as error:
            return error

    def breakers(self) -> list[BreakerState]:
        """Of the store, then of each key that was used."""
        return [self._breakers.writes.state(), *self._encryption.breakers()]

    def health(self) -> list[Part]:
        """A session, and a look at the state."""
        store = asked_part(
            "immudb", lambda: self._guarded(self._session.ping), self._breakers.writes.state
        )
        return [store, *(part_of(one) for one in self._encryption.breakers())]

    def _insert_chunk(
        self,
        waiting: dict[str, tuple[Record, bytes]],
        stored: dict[str, Record],
        conflicts: set[str],
        contested: set[str],
    ) -> None:
        allowance = self._allowance()
        for _ in range(ROUNDS_MAX):
            if not waiting:
                return
            entries: dict[bytes, bytes] = {}
            for transaction_id, (record, value) in waiting.items():
                entries[_key("transaction", transaction_id)] = value
                entries[_nonce_key(record)] = transaction_id.encode()
            try:
                self._set(entries, allowance)
            except ConditionFailed:
                self._settle(waiting, stored, conflicts, contested, allowance)
                continue
            first = next(iter(waiting))
            if self._verified(_key("transaction", first)) != waiting[first][1]:
                raise TierUnavailable("immuDB gave back another value than was set")
            stored.update({one: record for one, (record, _) in waiting.items()})
            return
        if waiting:
            raise TierUnavailable("immuDB: other writers kept these records busy")

    def _settle(
        self,
        waiting: dict[str, tuple[Record, bytes]],
        stored: dict[str, Record],
        conflicts: set[str],
        contested: set[str],
        allowance: Allowance,
    ) -> None:
        """Take out what is stored already, and what has lost its nonce to another."""
        found: dict[bytes, Found] = {}
        keys = {_key("transaction", one): one for one in waiting}
        try:
            self._verify_all(keys, found, allowance)
        finally:
            for key, one in found.items():
                stored[keys[key]] = _record(one.value)
                del waiting[keys[key]]
        nonces: dict[bytes, Found] = {}
        self._verify_all([_nonce_key(record) for record, _ in waiting.values()], nonces, allowance)
        lost = {
            one: nonces[_nonce_key(record)].value.decode()
            for one, (record, _) in waiting.items()
            if _nonce_key(record) in nonces
        }
        final = self._final([lost[one] for one in lost if waiting[one][0].final], allowance)
        contested.update(one for one in lost if waiting[one][0].final and lost[one] not in final)
        conflicts.update(lost)
        for transaction_id in lost:
            del waiting[transaction_id]

    def _final(self, transaction_ids: Sequence[str], allowance: Allowance) -> set[str]:
        """Those of them that lie here as final."""
        found: dict[bytes, Found] = {}
        self._verify_all([_key("transaction", one) for one in transaction_ids], found, allowance)
        records = [_record(one.value) for one in found.values()]
        return {one.transaction_id for one in records if one.final}

    def _value(self, record: Record, sealed: bytes) -> bytes:
        return msgspec.json.encode(
            _Stored(
                transaction_id=record.transaction_id,
                sender=record.sender,
                nonce=record.nonce,
                continent=record.continent,
                record=record,
                content=as_text(
                    self._encryption.encrypt(record.continent, record.transaction_id, sealed)
                ),
            )
        )

    def _entry(self, value: bytes) -> Entry:
        found = msgspec.json.decode(value, type=_Stored)
        try:
            ciphertext = b64decode(found.content)
        except ValueError as error:
            raise RecordDamaged(found.transaction_id, "its content is no base64") from error
        content = self._encryption.decrypt(found.continent, found.transaction_id, ciphertext)
        return found.record, content

    def _set(
        self,
        entries: Mapping[bytes, bytes],
        allowance: Allowance,
        others: Sequence[bytes] = (),
    ) -> None:
        """Write all, if neither their keys nor the others exist."""
        conditions = [absent(key) for key in (*entries, *others)]
        left_s = allowance.left_s()
        self._guarded(lambda: self._session.set(entries, conditions, left_s))

    def _verify_all(
        self, keys: Iterable[bytes], into: dict[bytes, Found], allowance: Allowance
    ) -> None:
        """Put what lies under these keys into `into`: also what came before a failure."""
        wanted = list(keys)
        if wanted:
            allowance.left_s()
            # Many calls and their proofs: how long they take together doesn't tell of the store.
            self._guarded(
                lambda: self._session.get_all(wanted, into, allowance.left_s), is_timed=False
            )

    def _allowance(self) -> Allowance:
        connecting_s = 0.0 if self._session.is_open else self._cold_timeout_s
        return Allowance("immuDB", self._timeout_s, connecting_s)

    def _verified(self, key: bytes) -> bytes | None:
        found = self._guarded(lambda: self._session.get(key))
        return None if found is None else found.value

    def _handshakes(self) -> list[Handshake]:
        access = self._access()
        host, _, port = str(access["address"]).rpartition(":")
        return [Handshake(host, int(port), access["server_ca_pem"], access["client_pem"])]

    def _guarded(self, call: Callable[[], Result], is_timed: bool = True) -> Result:
        """Call behind the breaker, which is told how long it took if `is_timed`."""
        breaker = self._breakers.current
        if not breaker.allows():
            raise TierUnavailable(f"immuDB: {breaker.resting()}")
        started_s, is_timed = time.perf_counter(), is_timed and self._session.is_open
        try:
            answer = call()
        except ConditionFailed:
            breaker.succeeded()
            raise
        except RecordCorrupted as error:
            breaker.succeeded()  # it answers, and takes what is new
            raise ContentDamaged(error.detail) from error
        except ProofFailed as error:
            breaker.abandoned()
            raise Unproved(error.detail) from error
        except TierUnavailable:
            breaker.abandoned()  # time was over between two calls that were answered
            raise
        except ImmudbUnavailable as error:
            breaker.failed(error.detail)
            if isinstance(error, LoginRefused):
                record_store_refusal(source="persist", store="immudb", detail=error.detail)
            else:
                note_failure("immudb", error, self._handshakes)
            raise TierUnavailable(error.detail) from error
        breaker.succeeded(time.perf_counter() - started_s if is_timed else 0.0)
        return answer


def connect_immudb() -> ImmudbTier:
    """The tier as the environment sets it."""
    settings = load_settings(ImmudbSettings)
    patience_s = settings.breaker_patience_s
    return ImmudbTier(
        lambda: read_secret(settings.immudb_secret),
        KmsEncryption(
            CustomerKeys(msgspec.json.decode(settings.kms_key_arns), settings.kms_keys_parameter),
            settings.kms_timeout_ms / 1000,
            lambda name: StoreBreakers(name, patience_s, changed=note_change),
        ),
        settings.persist_timeout_ms / 1000,
        settings.cold_timeout_ms / 1000,
        StoreBreakers("immudb", patience_s, settings.persist_slow_ms / 1000, note_change),
    )


def _held(kind: str, value: bytes) -> Record | Rejection:
    """What lies under a key of this kind."""
    return _record(value) if kind == "transaction" else msgspec.json.decode(value, type=Rejection)


def _record(value: bytes) -> Record:
    return msgspec.json.decode(value, type=_Stored).record


def _key(kind: str, transaction_id: str) -> bytes:
    return f"{kind}:{transaction_id}".encode()


def _nonce_key(record: Record) -> bytes:
    return f"nonce:{record.sender}:{record.nonce}".encode()
