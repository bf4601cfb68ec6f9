"""The way from a continent to its Atlas cluster: URI and certificates, kept for a short while."""

import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Final, Protocol

import msgspec

from federation.errors import SettingsError
from federation.limits import ROUTES_REST_S
from federation.regions import continent_named
from federation.route_providers import PROVIDERS, Routes, RoutesUnavailable
from federation.settings import both, load_settings

DEFAULT_PROVIDER: Final = "secrets_manager"
URI_SCHEMES: Final = ("mongodb://", "mongodb+srv://")

_log = logging.getLogger(__name__)


def get_mongo_uri_by_continent(continent: str) -> str:
    """The connection string of a continent's Atlas cluster; never `None`.

    It comes from the provider that `MONGO_URI_PROVIDER` names: `environment`, `ssm`,
    `secrets_manager` (the default) or `vault`; `route_providers` lists what each needs.

    Parameters
    ----------
    continent : str
        One of the seven names, such as `"Europe"`.

    Raises
    ------
    UnknownContinent
        For any other name; the message lists the seven.
    SettingsError
        Names all settings that the provider lacks.
    RoutesUnavailable
        The provider can't be reached, or knows no URI of this continent.
    """
    name = continent_named(continent)
    return _router().route(name).uri


class Route(msgspec.Struct, frozen=True):
    """How one cluster is reached; the certificates are PEM, empty where none is needed."""

    uri: str
    ca_pem: str
    client_pem: str


class RouterSettings(msgspec.Struct, frozen=True):
    """How long routes are kept, and how much longer while their provider doesn't answer."""

    mongo_uri_ttl_s: Annotated[int, msgspec.Meta(ge=0)] = 60
    mongo_uri_stale_max_s: Annotated[int, msgspec.Meta(ge=0)] = 3600


class Provider(Protocol):
    """Where routes come from."""

    def read(self) -> Routes:
        """All routes, read now.

        Raises
        ------
        RoutesUnavailable
            They can't be read.
        """
        ...


class Router:
    """Keeps what its provider says; any thread may use it, one at a time reads.

    Parameters
    ----------
    clock : callable
        Seconds that never go back.
    """

    def __init__(
        self,
        provider: Provider,
        settings: RouterSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._clock = clock
        self._reading = threading.Lock()
        self._routes: Routes | None = None
        self._read_s = 0.0
        self._failure: RoutesUnavailable | None = None
        self._failed_s = 0.0

    def route(self, continent: str) -> Route:
        """How the continent's cluster is reached; reads again what is older than its time.

        Raises
        ------
        UnknownContinent
            The message lists the seven.
        RoutesUnavailable
            The provider fails and nothing young enough is known, or it has no URI of this
            continent. Other continents may be reached all the same.
        """
        return _route(self._current(), continent)

    def known_route(self, continent: str) -> Route | None:
        """What was read last, whatever its age, without waiting for anything."""
        routes = self._routes
        try:
            return None if routes is None else _route(routes, continent)
        except RoutesUnavailable:
            return None

    def refresh(self) -> None:
        """Read again what is older than its time; if that fails, a warning is logged."""
        with contextlib.suppress(RoutesUnavailable):
            self._current()

    def expired(self) -> bool:
        """Whether `route` would read; after a failure not before a rest."""
        if self._resting():
            return False
        return self._routes is None or self._age_s() >= self._settings.mongo_uri_ttl_s

    def _current(self) -> Routes:
        with self._reading:
            if self.expired():
                try:
                    routes = self._provider.read()
                except RoutesUnavailable as error:
                    self._failure, self._failed_s = error, self._clock()
                    known = f"those of {self._age_s():.0f} s ago" if self._usable() else "none"
                    _log.warning("MongoDB URIs can't be read, %s serve: %s", known, error.detail)
                else:
                    self._routes, self._read_s, self._failure = routes, self._clock(), None
            if self._routes is not None and self._usable():
                return self._routes
            assert self._failure is not None
            raise self._failure

    def _usable(self) -> bool:
        if self._failure is None:
            return self._routes is not None
        limit_s = self._settings.mongo_uri_ttl_s + self._settings.mongo_uri_stale_max_s
        return self._routes is not None and self._age_s() <= limit_s

    def _resting(self) -> bool:
        return self._failure is not None and self._clock() - self._failed_s < ROUTES_REST_S

    def _age_s(self) -> float:
        return self._clock() - self._read_s


def start_router(environment: Mapping[str, str] | None = None) -> Router:
    """The router as the environment sets it; nothing is read yet.

    Raises
    ------
    SettingsError
        Names everything that the router and its provider lack.
    """
    source = os.environ if environment is None else environment
    settings, provider = both(
        lambda: load_settings(RouterSettings, source), lambda: _provider(source)
    )
    return Router(provider, settings)


def _provider(environment: Mapping[str, str]) -> Provider:
    name = environment.get("MONGO_URI_PROVIDER") or DEFAULT_PROVIDER
    if name not in PROVIDERS:
        raise SettingsError([f"MONGO_URI_PROVIDER {name!r} is none of {', '.join(PROVIDERS)}"])
    return load_settings(PROVIDERS[name], environment)


def _route(routes: Routes, continent: str) -> Route:
    name = continent_named(continent).value
    uri = routes.uris.get(name)
    if uri is None:
        raise RoutesUnavailable(f"there is no MongoDB URI of {name}")
    # The URI itself may hold a password: it is in no message.
    if not uri.startswith(URI_SCHEMES):
        raise RoutesUnavailable(f"the MongoDB URI of {name} begins with none of {URI_SCHEMES}")
    return Route(uri, routes.ca_pem, routes.client_pem)


@functools.cache
def _router() -> Router:
    return start_router()
