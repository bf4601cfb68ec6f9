"""Whether this machine's clock can be right, by the node's certificate and by its last vote."""

import datetime

from cryptography import x509

from love_node.errors import BadConfig, WrongClock


def check_clock(
    now: datetime.datetime, certificate_pem: bytes, voted_at_ms: int, tolerance_s: int
) -> None:
    """Hold the clock against what it has to agree with.

    Parameters
    ----------
    now : datetime
        With a time zone.
    certificate_pem : bytes
        The server's; now lies in its validity (RFC 5280 section 4.1.2.5).
    voted_at_ms : int
        When the vote locks were last written, in Unix ms; 0 if never.
    tolerance_s : int
        How far behind that the clock may be.

    Raises
    ------
    WrongClock, BadConfig
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as error:
        raise BadConfig(f"server_cert_pem_file: {error}") from None
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not starts <= now <= ends:
        raise WrongClock(
            f"clock: {now:%Y-%m-%dT%H:%M:%SZ} is not within the validity of server_cert_pem_file, "
            f"{starts:%Y-%m-%dT%H:%M:%SZ} to {ends:%Y-%m-%dT%H:%M:%SZ}"
        )
    behind_s = voted_at_ms / 1000 - now.timestamp()
    if behind_s > tolerance_s:
        raise WrongClock(
            f"clock: it is {behind_s:.0f} s behind the last vote; clock_tolerance_s is {tolerance_s}"
        )
