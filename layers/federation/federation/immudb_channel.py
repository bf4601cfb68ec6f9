"""The channel to immuDB: TLS both ways, since the front before immuDB demands a certificate."""

from collections.abc import Mapping
from typing import Any

import grpc

from federation.errors import SettingsError

#: Members of the secret `love/immudb` that a channel can't do without.
PEM_MEMBERS = ("server_ca_pem", "client_pem")


def open_channel(access: Mapping[str, Any]) -> grpc.Channel:
    """A gRPC channel to `access["address"]`; it connects when it is first used.

    gRPC negotiates TLS 1.3 with the key exchange X25519MLKEM768 wherever the other side can.

    Parameters
    ----------
    access : mapping
        The secret `love/immudb`: `address` (host:port), `server_ca_pem` (whoever must have signed
        the server's certificate), `client_pem` (our certificate and its private key).

    Raises
    ------
    SettingsError
        Members lack or are empty: there is no channel in clear, and none without a certificate.
    """
    missing = [member for member in ("address", *PEM_MEMBERS) if not access.get(member)]
    if missing:
        raise SettingsError([f"the secret of immuDB has no {member}" for member in missing])
    client_pem = access["client_pem"].encode()
    credentials = grpc.ssl_channel_credentials(
        access["server_ca_pem"].encode(), client_pem, client_pem
    )
    return grpc.secure_channel(access["address"], credentials)
