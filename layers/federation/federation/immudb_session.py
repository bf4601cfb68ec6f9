"""A session with one immuDB database, each read proved against what was seen of its history."""

import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import grpc
import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from google.protobuf.empty_pb2 import Empty
from immudb import ImmudbClient
from immudb.exceptions import ErrCorruptedData
from immudb.grpc import schema_pb2
from immudb.grpcutils import timeout_adder_interceptor
from immudb.handler import verifiedGet
from immudb.rootService import RootService

from federation.errors import FederationError, SettingsError
from federation.immudb_channel import open_channel

KNOCK_TIMEOUT_S: Final = 0.1
CLOSE_TIMEOUT_S: Final = 0.5
#: Reads that are on their way at once, over one connection: immuDB refuses a database's 31st, whoever
#: asks for it, and other environments ask too.
READS_AT_ONCE: Final = 8
_LOGIN_REFUSED: Final = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)

#: Gives the secret `love/immudb`.
Access = Callable[[], Mapping[str, Any]]
Result = TypeVar("Result")


class ImmudbUnavailable(FederationError):
    """immuDB can't be reached, or did not answer as it must."""

    def __init__(self, detail: str) -> None:
        super().__init__("immudb_unavailable", f"immuDB: {detail}")


class LoginRefused(ImmudbUnavailable):
    """immuDB knows no such user with this password."""


class DatabaseAbsent(ImmudbUnavailable):
    """immuDB has no database of this name (yet)."""


class ProofFailed(ImmudbUnavailable):
    """Its history is not the one that was seen before, or does not hold what it answers."""


class RecordCorrupted(ImmudbUnavailable):
    """immuDB says itself that the bytes of this record are not those that were written."""


class ConditionFailed(Exception):
    """A precondition does not hold; nothing was written."""


class Found(msgspec.Struct, frozen=True):
    """A value, the number of the transaction that wrote it, and how often its key was written."""

    value: bytes
    transaction: int
    revision: int


class ImmudbSession:
    """Opens itself when it is first needed, and again when it has ended.

    Parameters
    ----------
    access : callable
        Asked for each session, so that a new certificate or password is used without a restart.
    database_member : str
        Which member of the secret names the database.
    timeout_s, cold_timeout_s : float
        For a call, and for the first one of a session.
    roots : immudb.rootService.RootService, optional
        What is known of the history. By default the first state that the server tells; it is kept
        over reconnections, so that a store which comes back with another history is found out.
    """

    def __init__(
        self,
        access: Access,
        database_member: str,
        timeout_s: float,
        cold_timeout_s: float,
        roots: RootService | None = None,
    ) -> None:
        self._access = access
        self._database_member = database_member
        self._timeout_s = timeout_s
        self._cold_timeout_s = cold_timeout_s
        self._client: ImmudbClient | None = None
        self._roots = roots or RootService()
        self._roots_known = False

    @property
    def is_open(self) -> bool:
        """Whether the next call needs no login first."""
        return self._client is not None

    def call(self, work: Callable[[ImmudbClient], Result]) -> Result:
        """Do `work` with an open session; one that has ended is opened anew, once.

        Raises
        ------
        ConditionFailed
            A precondition does not hold.
        ImmudbUnavailable
            Or a subclass, which says why.
        """
        fresh = self._client is None
        try:
            return work(self._opened())
        except grpc.RpcError as error:
            details = str(error.details())
            if "precondition failed" in details:
                raise ConditionFailed(details) from None
            if "data is corrupted" in details:
                raise RecordCorrupted(details) from error
            self._forget()
            if "illegal state" in details:
                raise ProofFailed("it does not know the state that was seen before") from error
            if not fresh and error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                # The session ended, or the server was restarted: what is tried is insert-only.
                return self.call(work)
            raise ImmudbUnavailable(error.code().name) from error
        except ErrCorruptedData as error:
            self._forget()
            raise ProofFailed("its proof doesn't hold") from error

    def get(self, key: bytes) -> Found | None:
        """A verified read: the server proves that the value belongs to its unbroken history.

        Raises
        ------
        ImmudbUnavailable
            RecordCorrupted and ProofFailed among them.
        """

        def read(client: ImmudbClient) -> Found | None:
            try:
                found = client.verifiedGet(key)
            except grpc.RpcError as error:
                if "key not found" in str(error.details()):
                    return None
                raise
            return _found(found)

        return self.call(read)

    def get_all(
        self, keys: Iterable[bytes], into: dict[bytes, Found], left_s: Callable[[], float]
    ) -> None:
        """Verified reads of many keys, under way at once and proved one after another.

        Parameters
        ----------
        into : dict
            What is proved is put there, so that a failure takes nothing of it away. A key under
            which nothing lies is left out.
        left_s : callable
            Gives the seconds that are left for all of them, or raises what ends them; a read takes
            no longer than any other call either.

        Raises
        ------
        ImmudbUnavailable
            RecordCorrupted and ProofFailed among them.
        """
        unique = list(dict.fromkeys(keys))

        def read(client: ImmudbClient) -> None:
            waiting, at_once = [one for one in unique if one not in into], READS_AT_ONCE
            while waiting:
                limit_s = min(left_s(), self._timeout_s)
                again, is_busy = self._read_ahead(client, waiting[:at_once], into, limit_s)
                waiting = again + waiting[at_once:]
                if is_busy:
                    at_once = 1

        self.call(read)

    def _read_ahead(
        self, client: ImmudbClient, keys: Sequence[bytes], into: dict[bytes, Found], limit_s: float
    ) -> tuple[list[bytes], bool]:
        """Ask for all, prove what can be; gives what to ask for again, and if immuDB has too much.

        Each answer is proved against the state that was known when it was asked for. What is newer
        than that state moves it, and then the others' proofs begin at the wrong place: of what is
        newer only the newest is taken. All others lie behind it the next time.
        """
        since = self._roots.get().txId
        asked = {
            key: client.stub.VerifiableGet.future(_request(key, since), timeout=limit_s)
            for key in keys
        }
        answers, refused = _answers(asked)
        by_age = sorted(answers, key=lambda key: int(answers[key].entry.tx))
        newer = [key for key in by_age if int(answers[key].entry.tx) > since]
        again = newer[:-1]
        for key in by_age:
            if key not in again:
                answered = verifiedGet.call(_Answered(answers[key]), self._roots, key)
                into[key] = _found(answered)
        failures = [error for error in refused.values() if len(keys) == 1 or not _is_busy(error)]
        if failures:
            raise failures[0]
        return [*again, *refused], bool(refused)

    def set(
        self,
        entries: Mapping[bytes, bytes],
        conditions: Sequence[schema_pb2.Precondition],
        limit_s: float = float("inf"),
    ) -> None:
        """Write all in one transaction, if every condition holds; the server checks them.

        Parameters
        ----------
        limit_s : float
            It takes no longer than this, nor than any other call.

        Raises
        ------
        ConditionFailed, ImmudbUnavailable
        """
        request = schema_pb2.SetRequest(
            KVs=[schema_pb2.KeyValue(key=key, value=value) for key, value in entries.items()],
            preconditions=conditions,
        )
        timeout_s = min(limit_s, self._timeout_s)
        self.call(lambda client: client.stub.Set(request, timeout=timeout_s))

    def ping(self) -> None:
        """A session, and a look at the state."""
        self.call(lambda client: client.currentState())

    def close(self) -> None:
        """Give session and connection back; the next call opens another."""
        ending = self._forget()
        if ending is not None:
            with contextlib.suppress(grpc.RpcError, grpc.FutureTimeoutError):
                ending.result(CLOSE_TIMEOUT_S)

    def _forget(self) -> Any:
        """End the session without waiting for the server, which may be what fails.

        A server keeps a session that nobody ended for minutes, and has room for 100 of them.
        """
        client, self._client = self._client, None
        if client is None:
            return None
        ending = client.stub.CloseSession.future(Empty(), timeout=CLOSE_TIMEOUT_S)
        ending.add_done_callback(lambda _: client.channel.close())
        return ending

    def _opened(self) -> ImmudbClient:
        if self._client is None:
            client, database = open_session(
                self._access, self._database_member, self._cold_timeout_s, self._roots
            )
            # From here on it is ours to end, whatever comes.
            self._client = client
            try:
                if not self._roots_known:
                    self._roots.init(database, client.stub)
                    self._roots_known = True
                client.clientInterceptors = [timeout_adder_interceptor(self._timeout_s)]
                client._stub = client._get_intercepted_stub()
            except BaseException:
                self._forget()
                raise
        return self._client


def open_session(
    access: Access, database_member: str, timeout_s: float, roots: RootService
) -> tuple[ImmudbClient, str]:
    """A client with an open session, each call of which may take `timeout_s`; and its database.

    Raises
    ------
    LoginRefused, DatabaseAbsent, ImmudbUnavailable
    """
    try:
        secret = access()
        _check(secret, database_member, "username", "password")
        database = str(secret[database_member])
        channel = open_channel(secret)
    except (SettingsError, BotoCoreError, ClientError) as error:
        raise ImmudbUnavailable(str(error)) from error
    try:
        _knock(secret["address"])
        client = ImmudbClient(secret["address"], rs=roots, timeout=timeout_s)
        # The one that immudb-py has opened is in clear.
        client.channel.close()
        client.channel = channel
        client._resetStub()
        client.openSession(secret["username"], secret["password"], database.encode())
    except ImmudbUnavailable:
        channel.close()
        raise
    except grpc.RpcError as error:
        channel.close()
        details = str(error.details())
        if error.code() in _LOGIN_REFUSED or "invalid user name or password" in details:
            raise LoginRefused(f"the login of {secret['username']!r} is refused") from error
        if "database does not exist" in details:
            raise DatabaseAbsent(f"there is no database {database!r}") from error
        raise ImmudbUnavailable(error.code().name) from error
    return client, database


def create_database(access: Access, database_member: str, timeout_s: float) -> None:
    """Make the database that this member of the secret names, unless it exists.

    Needs a user who may.

    Raises
    ------
    ImmudbUnavailable
    """
    client, _ = open_session(access, "database", timeout_s, RootService())
    name = access()[database_member]
    try:
        request = schema_pb2.CreateDatabaseRequest(name=name, ifNotExists=True)
        client.stub.CreateDatabaseV2(request)
    except grpc.RpcError as error:
        raise ImmudbUnavailable(f"{name!r} can't be made: {error.details()}") from error
    finally:
        with contextlib.suppress(grpc.RpcError):
            client.stub.CloseSession(Empty(), timeout=CLOSE_TIMEOUT_S)
        client.channel.close()


def absent(key: bytes) -> schema_pb2.Precondition:
    """The condition that nothing lies under `key`."""
    condition = schema_pb2.Precondition.KeyMustNotExistPrecondition(key=key)
    return schema_pb2.Precondition(keyMustNotExist=condition)


def unchanged(key: bytes, transaction: int) -> schema_pb2.Precondition:
    """The condition that nothing was written under `key` after this transaction."""
    condition = schema_pb2.Precondition.KeyNotModifiedAfterTXPrecondition(key=key, txID=transaction)
    return schema_pb2.Precondition(keyNotModifiedAfterTX=condition)


class _Answered:
    """Stands in for immuDB where immudb-py asks for what was asked for already."""

    def __init__(self, answer: schema_pb2.VerifiableEntry) -> None:
        self._answer = answer

    def VerifiableGet(self, request: schema_pb2.VerifiableGetRequest) -> schema_pb2.VerifiableEntry:
        del request
        return self._answer


def _request(key: bytes, since: int) -> schema_pb2.VerifiableGetRequest:
    return schema_pb2.VerifiableGetRequest(
        keyRequest=schema_pb2.KeyRequest(key=key), proveSinceTx=since
    )


def _answers(
    asked: Mapping[bytes, Any],
) -> tuple[dict[bytes, schema_pb2.VerifiableEntry], dict[bytes, grpc.RpcError]]:
    """What lies under the keys, and why others got no answer; a key under which nothing lies is in neither.

    All are waited for: each has its limit, and what has come is not to be lost by what hasn't.
    """
    answers: dict[bytes, schema_pb2.VerifiableEntry] = {}
    refused: dict[bytes, grpc.RpcError] = {}
    for key, one in asked.items():
        try:
            answers[key] = one.result()
        except grpc.RpcError as error:
            if "key not found" not in str(error.details()):
                refused[key] = error
    return answers, refused


def _is_busy(error: grpc.RpcError) -> bool:
    """Whether immuDB serves as many at once as it can."""
    return "max concurrency limit exceeded" in str(error.details())


def _found(answer: Any) -> Found:
    return Found(bytes(answer.value), int(answer.id), int(answer.revision))


def _check(secret: Mapping[str, Any], *members: str) -> None:
    missing = [member for member in members if not secret.get(member)]
    if missing:
        raise SettingsError([f"the secret of immuDB has no {member}" for member in missing])


def _knock(address: str) -> None:
    """A bare connection tells at once that the server refuses; gRPC goes on trying."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), KNOCK_TIMEOUT_S).close()
    except OSError as error:
        raise ImmudbUnavailable(type(error).__name__) from error
