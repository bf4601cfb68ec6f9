"""Tier 1: MongoDB Atlas, one cluster a continent."""

import asyncio
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import pymongo
from botocore.exceptions import BotoCoreError, ClientError
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    EncryptionError,
    NetworkTimeout,
    PyMongoError,
)
from pymongocrypt.errors import MongoCryptError

from federation.breaker import Breaker, BreakerState, StoreBreakers, caller_now, calling_as
from federation.limits import BREAKER_PATIENCE_S, CANARY_KEPT_S
from federation.regions import CLUSTERS, CONTINENTS, NEAREST, Continent
from federation.route_providers import RoutesUnavailable
from federation.routing import Route, Router, start_router
from federation.settings import both, load_settings
from persist.atlas_documents import (
    document_of,
    entry_in,
    nonce_conflicts,
    note_pending,
    only_duplicates,
    records_in,
    rejections_in,
    settled,
)
from persist.breaker_changes import note_change
from persist.cluster_nodes import ClusterNodes, Node
from persist.customer_keys import CustomerKeys
from persist.encryption_schema import CANARY, DATABASE, TRANSACTIONS
from persist.field_encryption import CsfleMode, FieldKeys, aws_credentials, data_key_name
from persist.login import Handshake, note_failure
from persist.motor_db_handler import Document, MotorDBHandler
from persist.record import Record, RecordDamaged, Rejection
from persist.tier import ContentDamaged, Entry, Inserted, Part, TierUnavailable, part_of

REJECTIONS: Final = "rejections"
#: A refused or unroutable server is found out by a bare connection first, faster than by PyMongo's
#: server selection, which goes on trying for all of its time-out.
KNOCK_TIMEOUT_S: Final = 0.1
#: So much longer than PyMongo's own limit a write may take at most.
HANDSHAKE_GRACE_S: Final = 0.1
#: Both for whoever brings no money: it may ask the cluster at the other end of the world.
PATIENCE_S: Final = 1.0
#: A system's resolver may hang for longer than any limit here, and the driver asks it in a thread for
#: each server of each client: those of one cluster must not take the threads of the others.
THREADS_MAX: Final = 128

Result = TypeVar("Result")
#: The continent whose cluster is used, and the home continent whose keys are.
_Way = tuple[str, str]


class AtlasSettings(msgspec.Struct, frozen=True):
    """Where the KMS keys are, and how long clusters are waited for; where those are: `Router`.

    Attributes
    ----------
    allow_cross_region : bool
        Write to the nearest other continent's cluster while the home's can't be reached. By default
        a record leaves its continent's clusters only for tiers 2 and 3.
    persist_timeout_ms, read_timeout_ms, persist_slow_ms : int
        For what a batch writes, and for what a reader asks; a batch that took longer than `persist_slow_ms`
        counts as a failure, though it is stored.
    cold_timeout_ms, probe_timeout_ms : int
        For connecting: whoever brings money waits less than the canary. Before that, a cluster's
        servers are looked up for at most `cold_timeout_ms`, whoever asks.
    """

    kms_key_arns: str
    kms_keys_parameter: str = ""
    allow_cross_region: bool = False
    csfle_mode: CsfleMode = "explicit"
    crypt_shared_path: str = ""
    persist_timeout_ms: int = 120
    persist_slow_ms: int = 100
    cold_timeout_ms: int = 500
    probe_timeout_ms: int = 3_000
    read_timeout_ms: int = 1_000
    breaker_patience_s: float = BREAKER_PATIENCE_S


class _Connected(msgspec.Struct, frozen=True):
    """A handler, and what it was made with."""

    route: Route
    credentials: dict[str, str]
    nodes: tuple[Node, ...]
    handler: MotorDBHandler


class AtlasTier:
    """All clusters; each is connected to when it is first needed."""

    def __init__(self, settings: AtlasSettings, router: Router, directory: Path) -> None:
        self._settings = settings
        self._router = router
        self._rereading: asyncio.Future[Any] | None = None
        self._directory = directory
        self._keys = CustomerKeys(
            msgspec.json.decode(settings.kms_key_arns), settings.kms_keys_parameter
        )
        self._nodes = ClusterNodes()
        self._handlers: dict[_Way, _Connected] = {}
        self._connecting: defaultdict[_Way, asyncio.Lock] = defaultdict(asyncio.Lock)
        patience_s, slow_s = settings.breaker_patience_s, settings.persist_slow_ms / 1000
        self._breakers = {
            one.value: StoreBreakers(f"atlas/{one.value}", patience_s, slow_s, note_change)
            for one in CONTINENTS
        }
        self._kms_breakers = {
            one.value: StoreBreakers(f"kms/{one.value}", patience_s, changed=note_change)
            for one in CONTINENTS
        }
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(THREADS_MAX, "atlas-beside"))
        threading.Thread(target=self._loop.run_forever, name="atlas", daemon=True).start()

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        """`insert_many`, unordered, majority; what is a duplicate is looked at afterwards."""
        return self._run(self._insert(continent, records))

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        """Insert-only into the collection of rejections."""
        return self._run(self._reject(continent, rejections))

    def fetch(
        self, transaction_id: str, continent: str | None
    ) -> tuple[Record, bytes] | Rejection | None:
        """From the cluster that is likely first, then from all others side by side."""
        return self._run(self._fetch(transaction_id, continent))

    def canary(self, entries: Mapping[str, Entry]) -> Mapping[str, Entry | TierUnavailable]:
        """Into the collection `canary` of each cluster; what is older than ten minutes goes."""
        return self._run(self._canary(entries))

    def breakers(self) -> list[BreakerState]:
        """Of each cluster, then of each continent's key."""
        pairs = (*self._breakers.values(), *self._kms_breakers.values())
        return [one.writes.state() for one in pairs]

    def health(self) -> list[Part]:
        """Every cluster is asked at once."""
        return self._run(self._health())

    def at(
        self,
        continent: str,
        work: Callable[[MotorDBHandler], Awaitable[Result]],
        timeout_ms: int | None = None,
    ) -> Result:
        """Do `work` with the handler of a continent's own cluster, behind its breaker.

        It may be done twice, after a connection that was lost: it has to be idempotent.

        Raises
        ------
        TierUnavailable
        """
        return self._run(self._guarded((continent, continent), work, timeout_ms))

    async def _insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        async def write(handler: MotorDBHandler, cluster: str | None) -> Inserted:
            here = [msgspec.structs.replace(record, cluster=cluster) for record, _ in records]
            documents = [
                document_of(record, sealed)
                for record, (_, sealed) in zip(here, records, strict=True)
            ]
            stored = {record.transaction_id: record for record in here}
            await note_pending(handler, here)
            try:
                await handler.insert_many(TRANSACTIONS, documents)
            except BulkWriteError as error:
                doubtful = [here[n] for n in only_duplicates(error)]
                for record in doubtful:
                    del stored[record.transaction_id]
                ids = [record.transaction_id for record in doubtful]
                found = await handler.find(TRANSACTIONS, {"_id": {"$in": ids}}, {"content": 0})
                stored.update(records_in(found))
                missing = [one for one in doubtful if one.transaction_id not in stored]
                return Inserted(stored, *await nonce_conflicts(handler, missing))
            return Inserted(stored, frozenset())

        return await self._at_home_or_nearest(continent, write)

    async def _reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        async def write(
            handler: MotorDBHandler, cluster: str | None
        ) -> Mapping[str, Record | Rejection]:
            query = {"_id": {"$in": [one.transaction_id for one in rejections]}}
            stored = await handler.find(TRANSACTIONS, query, {"content": 0})
            kept: dict[str, Record | Rejection] = {**records_in(stored)}
            # A damaged record is one that was stored: what is final is not taken back either.
            there = {one["_id"] for one in stored}
            new = [
                msgspec.structs.replace(one, cluster=cluster)
                for one in rejections
                if one.transaction_id not in there
            ]
            if not new:
                return kept
            kept.update({one.transaction_id: one for one in new})
            documents = [{"_id": one.transaction_id, **msgspec.to_builtins(one)} for one in new]
            try:
                await handler.insert_many(REJECTIONS, documents)
            except BulkWriteError as error:
                known = {"_id": {"$in": [documents[n]["_id"] for n in only_duplicates(error)]}}
                first = rejections_in(await handler.find(REJECTIONS, known))
                for one in known["_id"]["$in"]:
                    del kept[one]
                kept.update(first)
            return kept

        return await self._at_home_or_nearest(continent, write)

    async def _at_home_or_nearest(
        self,
        home: str,
        write: Callable[[MotorDBHandler, str | None], Awaitable[Result]],
    ) -> Result:
        """Write to the home cluster, else, if that is allowed, to the nearest other one.

        `write` is told the cluster's name if that isn't the home's.
        """
        try:
            return await self._guarded((home, home), lambda handler: write(handler, None))
        except TierUnavailable as error:
            if not self._settings.allow_cross_region:
                raise
            nearest = NEAREST[Continent(home)]
            try:
                return await self._guarded(
                    (nearest.value, home), lambda handler: write(handler, CLUSTERS[nearest])
                )
            except TierUnavailable as other:
                raise TierUnavailable(f"{error.detail}; {other.detail}") from other

    async def _fetch(
        self, transaction_id: str, likely: str | None
    ) -> tuple[Record, bytes] | Rejection | None:
        others = [one.value for one in CONTINENTS if one.value != likely]
        unreachable: TierUnavailable | None = None
        for round_of in ([likely] if likely else []), others:
            found = await asyncio.gather(
                *(self._fetch_from(one, transaction_id) for one in round_of),
                return_exceptions=True,
            )
            for answer in found:
                if isinstance(answer, TierUnavailable):
                    unreachable = answer
                elif isinstance(answer, BaseException):
                    raise answer
                elif answer is not None:
                    return answer
        if unreachable is not None:
            raise unreachable
        return None

    async def _fetch_from(
        self, continent: str, transaction_id: str
    ) -> tuple[Record, bytes] | Rejection | None:
        async def look(handler: MotorDBHandler) -> tuple[Record, bytes] | Rejection | None:
            found = await handler.find_one(TRANSACTIONS, {"_id": transaction_id})
            if found is not None:
                record, sealed = entry_in(found)
                return await settled(handler, record), sealed
            rejection = await handler.find_one(REJECTIONS, {"_id": transaction_id})
            return None if rejection is None else msgspec.convert(rejection, Rejection)

        return await self._guarded((continent, continent), look, self._settings.read_timeout_ms)

    async def _canary(self, entries: Mapping[str, Entry]) -> dict[str, Entry | TierUnavailable]:
        async def one(continent: str) -> Entry | TierUnavailable:
            record, sealed = entries[continent]
            query = {"_id": record.transaction_id}
            old = {"stored_at_ms": {"$lt": record.stored_at_ms - CANARY_KEPT_S * 1000}}

            async def write(handler: MotorDBHandler) -> None:
                await handler.insert_many(CANARY, [document_of(record, sealed)])

            async def read(handler: MotorDBHandler) -> Document | None:
                found = await handler.find_one(CANARY, query)
                await handler.delete_many(CANARY, old)
                return found

            way = (continent, continent)
            try:
                await self._guarded(way, write)
                # Only the write is what a payment waits for, and is judged as one.
                with calling_as("read"):
                    found = await self._guarded(way, read, self._settings.read_timeout_ms)
            except TierUnavailable as error:
                return error
            if found is None:
                return TierUnavailable(f"Atlas {continent}: what was written is not there")
            try:
                return entry_in(found)
            except RecordDamaged as error:
                return TierUnavailable(f"Atlas {continent}: {error.detail}")

        answers = await asyncio.gather(*(one(continent) for continent in entries))
        return dict(zip(entries, answers, strict=True))

    async def _health(self) -> list[Part]:
        async def ask(continent: str) -> Part:
            reason = None
            try:
                await self._guarded(
                    (continent, continent),
                    lambda handler: handler.ping(),
                    self._settings.read_timeout_ms,
                )
            except TierUnavailable as error:
                reason = error.detail
            state = self._breakers[continent].writes.state()
            return Part(continent, "up" if reason is None else "down", reason, state)

        parts = await asyncio.gather(*(ask(one.value) for one in CONTINENTS))
        keys = [one.writes.state() for one in self._kms_breakers.values()]
        return [*parts, *(part_of(one) for one in keys)]

    async def _guarded(
        self,
        way: _Way,
        work: Callable[[MotorDBHandler], Awaitable[Result]],
        timeout_ms: int | None = None,
    ) -> Result:
        """Do `work` with a cluster's handler, within the time limits, behind its breaker."""
        continent, home = way
        breaker, kms = self._breakers[continent].current, self._kms_breakers[home].current
        self._claim(way, breaker, kms)
        try:
            connected = await self._connected(way)
            handler = connected.handler
            started_s = time.perf_counter()
            limit_s = (timeout_ms or self._settings.persist_timeout_ms) / 1000
            grace_s = HANDSHAKE_GRACE_S if caller_now() == "payment" else PATIENCE_S
            # PyMongo's own limit names what was waited for, but holds for no TLS handshake.
            with pymongo.timeout(limit_s):
                async with asyncio.timeout(limit_s + grace_s):
                    if not breaker.is_trusted():
                        # The driver would look for a server that is gone until the time is over.
                        await self._reach(way, connected)
                    try:
                        answer = await work(handler)
                    except AutoReconnect as error:
                        if isinstance(error, NetworkTimeout):
                            raise
                        # A connection from before a restart; what is tried is insert-only.
                        await self._reach(way, connected)
                        answer = await work(handler)
        except RoutesUnavailable as error:
            kms.abandoned()
            breaker.failed(error.reason)
            raise TierUnavailable(f"Atlas {continent}: {error.detail}") from error
        except (PyMongoError, BotoCoreError, ClientError, OSError, TimeoutError) as error:
            why = type(error).__name__
            if caller_now() != "payment" and _is_of_content(error):
                # Only what is read can be so; a write that lacks its key is KMS's failure.
                breaker.abandoned()
                kms.abandoned()
                raise ContentDamaged(f"Atlas {continent}: {error}") from error
            if self._is_of_kms(continent, error):
                breaker.abandoned()
                kms.failed(why)
                raise TierUnavailable(f"KMS of {home}: {why}") from error
            kms.abandoned()
            breaker.failed(why)
            note_failure(f"mongodb {continent}", error, partial(self._handshakes, continent))
            raise TierUnavailable(f"Atlas {continent}: {why}") from error
        except RecordDamaged:
            breaker.succeeded()  # what it holds is damaged, but it answers
            kms.abandoned()
            raise
        except asyncio.CancelledError:
            kms.abandoned()
            breaker.failed("no answer in time")
            raise
        # Reads of other continents' clusters go far; only how long writes take tells of the store.
        breaker.succeeded(
            0.0 if breaker is self._breakers[continent].reads else time.perf_counter() - started_s
        )
        kms.succeeded()
        return answer

    @staticmethod
    def _claim(way: _Way, breaker: Breaker, kms: Breaker) -> None:
        """Raise TierUnavailable unless both breakers allow a try; both then wait for its end."""
        continent, home = way
        if kms.refuses():
            raise TierUnavailable(f"KMS of {home}: {kms.resting()}")
        if not breaker.allows():
            raise TierUnavailable(f"Atlas {continent}: {breaker.resting()}")
        kms.allows()

    def _is_of_kms(self, continent: str, error: BaseException) -> bool:
        """Whether KMS failed: encryption asks it and the cluster, and the message names the host."""
        return isinstance(error, EncryptionError) and not any(
            f"{host}:{port}" in str(error) for host, port in self._nodes.known(continent)
        )

    def _handshakes(self, continent: str) -> list[Handshake]:
        """The servers of the continent's cluster, as far as it is known."""
        route = self._router.known_route(continent)
        if route is None:
            return []
        return [
            Handshake(host, port, route.ca_pem, route.client_pem)
            for host, port in self._nodes.known(continent)
        ]

    async def _connected(self, way: _Way) -> _Connected:
        credentials = aws_credentials()
        known = self._known(way, credentials)
        if known is not None:
            self._reread_routes()
            return known
        async with self._connecting[way]:
            known = self._known(way, credentials)
            if known is not None:
                return known
            # A provider that is slow must not hold up the other continents.
            route = await asyncio.to_thread(self._router.route, way[0])
            nodes = await self._nodes.reach(
                way[0], route.uri, self._settings.cold_timeout_ms / 1000, _knock_limit_s()
            )
            handler = await self._connect(way[1], route, credentials)
            fresh = _Connected(route, credentials, nodes, handler)
            self._handlers[way] = fresh
            return fresh

    def _known(self, way: _Way, credentials: dict[str, str]) -> _Connected | None:
        """The connection, unless credentials or route are others than those it was made with.

        Lambda's credentials change every few hours; CSFLE keeps those it was made with.
        """
        known = self._handlers.get(way)
        if known is None or known.credentials != credentials:
            return None
        # A provider that says nothing of this continent any more takes no working store away.
        if self._router.known_route(way[0]) not in (None, known.route):
            return None
        return known

    async def _reach(self, way: _Way, connected: _Connected) -> None:
        """Raise PyMongoError, OSError or TimeoutError unless a server of the cluster accepts."""
        limit_s = _knock_limit_s()
        nodes = await self._nodes.reach(way[0], connected.route.uri, limit_s, limit_s)
        if not set(nodes).isdisjoint(connected.nodes):
            return
        # The driver would never find servers that all have other names now: the next try connects.
        if self._handlers.get(way) is connected:
            del self._handlers[way]
        raise AutoReconnect("the cluster has other servers than before")

    def _reread_routes(self) -> None:
        """Read expired routes beside the work: who has a connection doesn't wait for them."""
        running = self._rereading is not None and not self._rereading.done()
        if self._router.expired() and not running:
            self._rereading = self._loop.run_in_executor(None, self._router.refresh)

    async def _connect(
        self, home: str, route: Route, credentials: dict[str, str]
    ) -> MotorDBHandler:
        # Wherever a record lies, its data key is one of its home's, under the home's KMS key. It is
        # kept in the same cluster, so that no record needs two clusters to be read.
        key_arns = await asyncio.to_thread(self._keys.of, home)
        keys = FieldKeys(
            data_key_name(home),
            key_arns[0],
            credentials,
            self._settings.csfle_mode,
            self._settings.crypt_shared_path,
        )
        settings = self._settings
        cold_ms = settings.cold_timeout_ms
        patience_ms = settings.probe_timeout_ms if caller_now() == "canary" else cold_ms
        with pymongo.timeout(patience_ms / 1000):
            handler = await MotorDBHandler.new(
                route.uri,
                DATABASE,
                keys=keys,
                serverSelectionTimeoutMS=cold_ms,
                connectTimeoutMS=cold_ms,
                retryWrites=False,
                **self._tls_files(route),
            )
            try:
                await handler.create_unique_index(TRANSACTIONS, "sender", "nonce")
            except BaseException:
                await handler.close()
                raise
        return handler

    def _tls_files(self, route: Route) -> dict[str, str]:
        """PyMongo takes certificates as files only; these are readable by this process' user."""
        options = {}
        certificates = (
            ("tlsCAFile", "ca", route.ca_pem),
            ("tlsCertificateKeyFile", "client", route.client_pem),
        )
        for option, name, pem in certificates:
            if pem:
                # A new file each time, readable by its owner only: another connection may be
                # reading the one before.
                descriptor, path = tempfile.mkstemp(".pem", name, self._directory)
                with os.fdopen(descriptor, "w") as file:
                    file.write(pem)
                options[option] = path
        return options

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        settings = self._settings
        connect_ms = max(settings.cold_timeout_ms, settings.probe_timeout_ms)
        if caller_now() == "payment":
            connect_ms = settings.cold_timeout_ms
        limit_s = (connect_ms + settings.persist_timeout_ms) / 1000
        if self._settings.allow_cross_region:
            limit_s *= 2
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(limit_s + 0.5)
        except FutureTimeout:
            future.cancel()
            raise TierUnavailable("Atlas did not answer in time") from None


def _is_of_content(error: BaseException) -> bool:
    """Whether libmongocrypt can't decrypt what it was given, though keys and servers are there."""
    return (
        isinstance(error, EncryptionError)
        and isinstance(error.cause, MongoCryptError)
        and "KMS" not in str(error.cause)
    )


def connect_atlas() -> AtlasTier:
    """The tier as the environment sets it."""
    settings, router = both(lambda: load_settings(AtlasSettings), start_router)
    return AtlasTier(settings, router, Path(tempfile.mkdtemp(prefix="atlas-")))


def _knock_limit_s() -> float:
    """How long the current caller waits for a bare connection, and for a name to be looked up again."""
    return KNOCK_TIMEOUT_S if caller_now() == "payment" else PATIENCE_S
