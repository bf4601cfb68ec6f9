"""Chooses where the issuer's keys come from: its JWKS URL, or the secret itself."""

import functools

from authorize.issuer_keys import FetchedKeys, GivenKeys, KeySource, Patience, parse_keys
from authorize.jwks_url import check_url, fetch_jwks
from federation.errors import InvalidField


@functools.lru_cache(4)
def key_source(
    url: str | None, ca_pem: str | None, given: str | None, patience: Patience
) -> KeySource:
    """The keys that the secret `love/trust` speaks of; what was fetched stays known to the process.

    Parameters
    ----------
    url, ca_pem : str or None
        The members `jwks_url` and `jwks_ca_pem`.
    given : str or None
        The member `jwks` as JSON text; beside a URL it serves until the first fetch succeeds.

    Raises
    ------
    InvalidField
        The URL is not `https`, or there are neither URL nor keys.
    BadKeySet
        `given` is no JWK Set that we take.
    """
    keys = parse_keys(given) if given else {}
    if url is None:
        if not keys:
            raise InvalidField("jwks", "has a usable key, or there is a jwks_url")
        return GivenKeys(keys)
    check_url(url)
    return FetchedKeys(functools.partial(fetch_jwks, url, ca_pem), patience, keys)
