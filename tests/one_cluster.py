"""A router of which every continent's cluster is the one MongoDB-compatible server of a test."""

from federation.regions import CONTINENTS
from federation.routing import Router, start_router


def router_to(port: int, ca_pem: str, client_pem: str) -> Router:
    """All clusters are at `port` of loopback; the certificates are PEM texts."""
    uri = f"mongodb://127.0.0.1:{port}/?tls=true&directConnection=true"
    return start_router(
        {
            "MONGO_URI_PROVIDER": "environment",
            **{f"MONGO_URI_{one.name}": uri for one in CONTINENTS},
            "MONGO_CA_PEM": ca_pem,
            "MONGO_CLIENT_PEM": client_pem,
        }
    )
