"""A thin client of Toxiproxy's HTTP API: breaks and mends the way to each store."""

import json
import urllib.error
import urllib.request
from typing import Any, Final

from lovectl.processes import LOOPBACK

#: A change is answered when each open connection has passed on what it holds, which a fault delays.
_TIMEOUT_S: Final = 30.0


class Toxiproxy:
    """The proxies of one Toxiproxy server.

    Parameters
    ----------
    port : int
        Of its HTTP API, on loopback.

    Examples
    --------
    >>> proxies = Toxiproxy(8474)  # doctest: +SKIP
    >>> proxies.down("mongo-asia")  # connections are refused  # doctest: +SKIP
    >>> proxies.toxic("immudb", "latency", latency=1000, jitter=100)  # doctest: +SKIP
    >>> proxies.reset()  # all well again  # doctest: +SKIP
    """

    def __init__(self, port: int) -> None:
        self._base = f"http://{LOOPBACK}:{port}"

    def add(self, name: str, listen_port: int, upstream_port: int) -> None:
        """Stand on `listen_port` and pass everything on to `upstream_port`."""
        self._call(
            "POST",
            "/proxies",
            {
                "name": name,
                "listen": f"{LOOPBACK}:{listen_port}",
                "upstream": f"{LOOPBACK}:{upstream_port}",
                "enabled": True,
            },
        )

    def remove(self, name: str) -> None:
        """Take a proxy away for good."""
        self._call("DELETE", f"/proxies/{name}", None)

    def add_all(self, ports: dict[str, tuple[int, int]]) -> None:
        """Add many at once: name to (listen port, upstream port)."""
        self._call(
            "POST",
            "/populate",
            [
                {
                    "name": name,
                    "listen": f"{LOOPBACK}:{listen}",
                    "upstream": f"{LOOPBACK}:{upstream}",
                    "enabled": True,
                }
                for name, (listen, upstream) in ports.items()
            ],
        )

    def names(self) -> list[str]:
        """All proxies, sorted."""
        return sorted(self._call("GET", "/proxies", None))

    def is_up(self, name: str) -> bool:
        """Whether the proxy accepts connections."""
        return bool(self._call("GET", f"/proxies/{name}", None)["enabled"])

    def down(self, name: str) -> None:
        """Cut every connection, refuse new ones."""
        self._call("POST", f"/proxies/{name}", {"enabled": False})

    def up(self, name: str) -> None:
        """Accept connections again; toxics stay."""
        self._call("POST", f"/proxies/{name}", {"enabled": True})

    def toxic(
        self,
        name: str,
        kind: str,
        *,
        stream: str = "downstream",
        toxicity: float = 1.0,
        **attributes: int,
    ) -> None:
        """Add a fault to a proxy.

        Parameters
        ----------
        name : str
        kind : str
            `latency` (latency, jitter in ms), `timeout` (timeout in ms; 0 hangs for ever),
            `bandwidth` (rate in KB/s), `slow_close` (delay in ms), `reset_peer` (timeout in ms),
            `slicer`, `limit_data` (bytes).
        stream : {"downstream", "upstream"}
            Which direction.
        toxicity : float
            Share of connections it strikes.
        """
        self._call(
            "POST",
            f"/proxies/{name}/toxics",
            {
                "name": f"{kind}_{stream}",
                "type": kind,
                "stream": stream,
                "toxicity": toxicity,
                "attributes": attributes,
            },
        )

    def cure(self, name: str) -> None:
        """Remove all toxics of one proxy."""
        for toxic in self._call("GET", f"/proxies/{name}/toxics", None):
            self._call("DELETE", f"/proxies/{name}/toxics/{toxic['name']}", None)

    def reset(self) -> None:
        """Every proxy up, no toxics."""
        self._call("POST", "/reset", None)

    def _call(self, method: str, path: str, body: object) -> Any:
        # Its API refuses what looks like a browser; any other User-Agent will do.
        request = urllib.request.Request(  # noqa: S310
            self._base + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json", "User-Agent": "lovectl"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
                text = response.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise ValueError(f"toxiproxy refused {method} {path}: {said}") from None
        return json.loads(text) if text else None
