"""Where the servers of each cluster are, and whether one of them accepts: nothing here blocks an event loop."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
from pymongo.errors import ConfigurationError
from pymongo.uri_parser import parse_uri

#: Host and port.
Node = tuple[str, int]

UNPARSABLE: Final = "the URI can't be parsed"


class ClusterNodes:
    """The servers of each continent's cluster, kept until none of them accepts.

    A `mongodb+srv` URI names them in the DNS, whose synchronous client PyMongo asks: a thread waits
    for it, and whoever needs the answer waits for that thread no longer than its own limit.
    """

    def __init__(self) -> None:
        self._found: dict[str, _Found] = {}
        self._doubted: set[str] = set()

    def known(self, continent: str) -> tuple[Node, ...]:
        """What was found last, doubted or not, without asking anybody; empty before."""
        found = self._found.get(continent)
        return () if found is None else found.nodes

    async def reach(
        self, continent: str, uri: str, resolve_s: float, knock_s: float
    ) -> tuple[Node, ...]:
        """The servers that the URI names, one of which has just accepted a connection.

        If none does, they are asked for again next time: a cluster that was paused or moved may
        come back elsewhere.

        Parameters
        ----------
        resolve_s, knock_s : float
            For the DNS, where it has to be asked, then for the servers.

        Raises
        ------
        pymongo.errors.ConfigurationError
            The URI can't be parsed, or the DNS doesn't know its name.
        OSError, TimeoutError
            No server accepts, or nobody answers in time.
        """
        nodes = await self._resolved(continent, uri, resolve_s)
        try:
            await knock(nodes, knock_s)
        except (OSError, TimeoutError):
            self._doubted.add(continent)
            raise
        return nodes

    async def _resolved(self, continent: str, uri: str, limit_s: float) -> tuple[Node, ...]:
        found = self._found.get(continent)
        if found is not None and found.uri == uri and continent not in self._doubted:
            return found.nodes
        async with asyncio.timeout(limit_s):
            return await asyncio.to_thread(self._find, continent, uri, limit_s)

    def _find(self, continent: str, uri: str, limit_s: float) -> tuple[Node, ...]:
        nodes = _nodes_of(uri, limit_s)
        # What comes too late for whoever asked serves the next one.
        self._found[continent] = _Found(uri, nodes)
        self._doubted.discard(continent)
        return nodes


class _Found(msgspec.Struct, frozen=True):
    """The servers that a URI named."""

    uri: str
    nodes: tuple[Node, ...]


def _nodes_of(uri: str, limit_s: float) -> tuple[Node, ...]:
    """Blocks while the DNS is asked, at most `limit_s` for each of two records.

    Raises
    ------
    pymongo.errors.ConfigurationError
        Whatever is wrong with the URI or its name.
    """
    try:
        # Given in seconds, whatever PyMongo's documentation says of this parameter.
        return tuple(parse_uri(uri, connect_timeout=limit_s)["nodelist"])
    except (ValueError, TypeError):
        # Its message may quote a part of the URI, which may be a password.
        raise ConfigurationError(UNPARSABLE) from None


async def knock(nodes: Sequence[Node], limit_s: float) -> None:
    """Raise OSError or TimeoutError unless a server accepts; the driver finds the primary itself."""
    tries = [asyncio.ensure_future(_accept(*one, limit_s)) for one in nodes]
    failure: Exception = OSError("the URI names no server")
    try:
        for one in asyncio.as_completed(tries):
            try:
                return await one
            except (OSError, TimeoutError) as error:
                failure = error
        raise failure
    finally:
        for one in tries:
            one.cancel()


async def _accept(host: str, port: int, limit_s: float) -> None:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), limit_s)
    except ValueError as error:
        raise OSError("a server has a name that no DNS can hold") from error
    writer.close()
