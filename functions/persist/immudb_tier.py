"""Tier 3: immuDB, one transaction a batch, its conditions checked by the server, verified."""

import socket
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import grpc
import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from immudb import ImmudbClient
from immudb.exceptions import ErrCorruptedData
from immudb.grpc import schema_pb2
from immudb.grpcutils import timeout_adder_interceptor
from immudb.rootService import RootService

from federation.errors import SettingsError
from federation.immudb_channel import open_channel
from federation.secrets import read_secret
from federation.settings import load_settings
from persist.breaker import Breaker
from persist.customer_keys import CustomerKeys
from persist.kms_encryption import KmsEncryption
from persist.record import Record, Rejection, as_text
from persist.tier import Inserted, TierUnavailable

#: immuDB takes at most 1,024 entries in a transaction; a record is two: itself and its nonce.
RECORDS_MAX: Final = 500
ROUNDS_MAX: Final = 4
KNOCK_TIMEOUT_S: Final = 0.2

Result = TypeVar("Result")


class ImmudbSettings(msgspec.Struct, frozen=True):
    """Where immuDB's access is kept, which keys, and how long it is waited for."""

    immudb_secret: str
    kms_key_arns: str
    kms_keys_parameter: str = ""
    persist_timeout_ms: int = 500
    cold_timeout_ms: int = 3_000


class _Stored(msgspec.Struct, frozen=True):
    """What lies under a transaction's key; `content` is base64."""

    transaction_id: str
    sender: str
    nonce: int
    continent: str
    record: Record
    content: str


class ConditionFailed(Exception):
    """A key of the transaction exists already; nothing was written."""


class ImmudbTier:
    """The last tier.

    Parameters
    ----------
    access : callable
        Gives the secret `love/immudb`; asked for each session, so that a new certificate or
        password is used without a restart.
    timeout_s, cold_timeout_s : float
        For a call, and for the first one of a session.
    """

    def __init__(
        self,
        access: Callable[[], Mapping[str, Any]],
        encryption: KmsEncryption,
        timeout_s: float,
        cold_timeout_s: float,
    ) -> None:
        self._access = access
        self._encryption = encryption
        self._timeout_s = timeout_s
        self._cold_timeout_s = cold_timeout_s
        self._breaker = Breaker()
        self._client: ImmudbClient | None = None
        # What this process has seen of the history; kept over reconnections, so that a store
        # which comes back with another history is found out.
        self._roots = RootService()
        self._roots_known = False

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        """All in one transaction, if no key of it exists; else those whose keys don't."""
        stored: dict[str, Record] = {}
        conflicts: set[str] = set()
        for start in range(0, len(records), RECORDS_MAX):
            waiting = {
                record.transaction_id: (record, self._value(record, sealed))
                for record, sealed in records[start : start + RECORDS_MAX]
            }
            try:
                self._insert_chunk(waiting, stored, conflicts)
            except TierUnavailable:
                if not stored and not conflicts:
                    raise
                break
        return Inserted(stored, frozenset(conflicts))

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        """Each under its key, unless that exists."""
        return {one.transaction_id: self._reject(one) for one in rejections}

    def _reject(self, rejection: Rejection) -> Record | Rejection:
        stored = self._verified(_key("transaction", rejection.transaction_id))
        if stored is not None:
            return msgspec.json.decode(stored, type=_Stored).record
        key = _key("rejection", rejection.transaction_id)
        try:
            self._set({key: msgspec.json.encode(rejection)})
        except ConditionFailed:
            first = self._verified(key)
            if first is None:
                raise TierUnavailable("immuDB: a rejection that exists can't be read") from None
            return msgspec.json.decode(first, type=Rejection)
        return rejection

    def fetch(
        self, transaction_id: str, continent: str | None
    ) -> tuple[Record, bytes] | Rejection | None:
        """A verified read: the server proves that the value belongs to its unbroken history."""
        value = self._verified(_key("transaction", transaction_id))
        if value is not None:
            found = msgspec.json.decode(value, type=_Stored)
            ciphertext = b64decode(found.content)
            content = self._encryption.decrypt(found.continent, transaction_id, ciphertext)
            return found.record, content
        rejection = self._verified(_key("rejection", transaction_id))
        return None if rejection is None else msgspec.json.decode(rejection, type=Rejection)

    def ping(self) -> None:
        """A session, and a look at the state."""
        self._guarded(lambda client: client.currentState())

    def _insert_chunk(
        self,
        waiting: dict[str, tuple[Record, bytes]],
        stored: dict[str, Record],
        conflicts: set[str],
    ) -> None:
        for _ in range(ROUNDS_MAX):
            if not waiting:
                return
            entries: dict[bytes, bytes] = {}
            for transaction_id, (record, value) in waiting.items():
                entries[_key("transaction", transaction_id)] = value
                entries[_nonce_key(record)] = transaction_id.encode()
            try:
                self._set(entries)
            except ConditionFailed:
                self._settle(waiting, stored, conflicts)
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
    ) -> None:
        """Take out what is stored already, and what has lost its nonce to another."""
        for transaction_id, (record, _) in list(waiting.items()):
            value = self._verified(_key("transaction", transaction_id))
            if value is not None:
                stored[transaction_id] = msgspec.json.decode(value, type=_Stored).record
                del waiting[transaction_id]
            elif self._verified(_nonce_key(record)) is not None:
                conflicts.add(transaction_id)
                del waiting[transaction_id]

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

    def _set(self, entries: Mapping[bytes, bytes]) -> None:
        absent = schema_pb2.Precondition.KeyMustNotExistPrecondition
        request = schema_pb2.SetRequest(
            KVs=[schema_pb2.KeyValue(key=key, value=value) for key, value in entries.items()],
            preconditions=[
                schema_pb2.Precondition(keyMustNotExist=absent(key=key)) for key in entries
            ],
        )
        self._guarded(lambda client: client.stub.Set(request))

    def _verified(self, key: bytes) -> bytes | None:
        def get(client: ImmudbClient) -> bytes | None:
            try:
                return bytes(client.verifiedGet(key).value)
            except grpc.RpcError as error:
                if "key not found" in str(error.details()):
                    return None
                raise

        return self._guarded(get)

    def _guarded(self, call: Callable[[ImmudbClient], Result]) -> Result:
        """Call with an open session, behind the breaker; a session that has ended is opened anew."""
        if not self._breaker.allows():
            raise TierUnavailable("immuDB: resting after failures")
        fresh = self._client is None
        try:
            answer = call(self._session())
        except grpc.RpcError as error:
            details = str(error.details())
            if "precondition failed" in details:
                self._breaker.succeeded()
                raise ConditionFailed(details) from None
            self._forget()
            if not fresh and error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                # The session ended, or the server was restarted: what is tried is insert-only.
                return self._guarded(call)
            self._breaker.failed()
            raise TierUnavailable(f"immuDB: {error.code().name}") from error
        except ErrCorruptedData as error:
            self._forget()
            raise TierUnavailable("immuDB: its proof doesn't hold") from error
        self._breaker.succeeded()
        return answer

    def _session(self) -> ImmudbClient:
        if self._client is None:
            access, channel = self._open()
            client = ImmudbClient(access["address"], rs=self._roots, timeout=self._cold_timeout_s)
            # The one that immudb-py has opened is in clear.
            client.channel.close()
            client.channel = channel
            client._resetStub()
            try:
                client.openSession(
                    access["username"], access["password"], access["database"].encode()
                )
            except grpc.RpcError:
                client.channel.close()
                raise
            if not self._roots_known:
                self._roots.init(access["database"], client.stub)
                self._roots_known = True
            client.clientInterceptors = [timeout_adder_interceptor(self._timeout_s)]
            client._stub = client._get_intercepted_stub()
            self._client = client
        return self._client

    def _open(self) -> tuple[Mapping[str, Any], grpc.Channel]:
        """The access that holds now, and a channel made with it."""
        try:
            access = self._access()
            channel = open_channel(access)
        except (SettingsError, BotoCoreError, ClientError) as error:
            self._breaker.failed()
            raise TierUnavailable(f"immuDB: {error}") from error
        try:
            self._knock(access["address"])
        except TierUnavailable:
            channel.close()
            raise
        return access, channel

    def _knock(self, address: str) -> None:
        """A bare connection tells at once that the server refuses; gRPC goes on trying."""
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), KNOCK_TIMEOUT_S).close()
        except OSError as error:
            self._breaker.failed()
            raise TierUnavailable(f"immuDB: {type(error).__name__}") from error

    def _forget(self) -> None:
        if self._client is not None:
            self._client.channel.close()
            self._client = None


def connect_immudb() -> ImmudbTier:
    """The tier as the environment sets it."""
    settings = load_settings(ImmudbSettings)
    return ImmudbTier(
        lambda: read_secret(settings.immudb_secret),
        KmsEncryption(
            CustomerKeys(msgspec.json.decode(settings.kms_key_arns), settings.kms_keys_parameter)
        ),
        settings.persist_timeout_ms / 1000,
        settings.cold_timeout_ms / 1000,
    )


def _key(kind: str, transaction_id: str) -> bytes:
    return f"{kind}:{transaction_id}".encode()


def _nonce_key(record: Record) -> bytes:
    return f"nonce:{record.sender}:{record.nonce}".encode()
