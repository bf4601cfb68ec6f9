"""Which KMS keys a continent has: the first one encrypts, every one of them decrypts."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.limits import CUSTOMER_KEYS_REST_S, CUSTOMER_KEYS_TTL_S
from federation.secrets import settings_client

_NOT_THERE: Final = "ParameterNotFound"

_log = logging.getLogger(__name__)


class CustomerKeys:
    """The keys of the template, and before them those that a rotation has added since.

    Rotations are written into one parameter of Parameter Store, `{continent: [ARN, …]}`, the
    newest first; a parameter that isn't there says nothing. What was read serves on while it can't
    be read, and is read again beside the work, so that nobody waits for it but the first.

    Parameters
    ----------
    key_arns : mapping of continent to ARN, or to ARNs
        The setting `KMS_KEY_ARNS`: these decrypt whatever the parameter says.
    parameter : str
        The parameter's name; empty where keys are never rotated.
    clock : callable
        Seconds that never go back.

    Examples
    --------
    >>> CustomerKeys({"Europe": "arn:aws:kms:eu-central-1:1:key/mrk-1"}).of("Europe")
    ('arn:aws:kms:eu-central-1:1:key/mrk-1',)
    """

    def __init__(
        self,
        key_arns: Mapping[str, str | Sequence[str]],
        parameter: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fixed = {continent: _listed(arns) for continent, arns in key_arns.items()}
        self._parameter = parameter
        self._clock = clock
        self._rotated: dict[str, list[str]] = {}
        self._tried_s = float("-inf")
        self._pause_s = CUSTOMER_KEYS_TTL_S
        self._reading = threading.Lock()
        self._beside = threading.Thread()

    def of(self, continent: str) -> tuple[str, ...]:
        """The continent's key ARNs; none of them twice, nor two Regions of one multi-Region key."""
        tried_s = self._tried_s
        if tried_s == float("-inf"):
            self._read(tried_s)
        elif self._untried_for(self._pause_s) and not self._beside.is_alive():
            self._beside = threading.Thread(target=self._read, args=(tried_s,), daemon=True)
            self._beside.start()
        return self._known(continent)

    def renewed(self, continent: str, known: Sequence[str]) -> tuple[str, ...] | None:
        """The keys read anew, or `None` if they are still the `known` ones.

        For a record that names a key which isn't known: another process may have learnt of a
        rotation before this one. The parameter is read only after a rest, so that damaged records
        cost no storm of reads.
        """
        tried_s = self._tried_s
        if self._untried_for(CUSTOMER_KEYS_REST_S):
            self._read(tried_s)
        found = self._known(continent)
        return None if found == tuple(known) else found

    def _untried_for(self, time_s: float) -> bool:
        return bool(self._parameter) and self._clock() - self._tried_s >= time_s

    def _known(self, continent: str) -> tuple[str, ...]:
        by_key: dict[str, str] = {}
        for arn in (*self._rotated.get(continent, ()), *self._fixed[continent]):
            by_key.setdefault(key_identity(arn), arn)
        return tuple(by_key.values())

    def _read(self, tried_s: float) -> None:
        """Read, unless another thread did since the last try, which was at `tried_s`."""
        if not self._parameter:
            return
        with self._reading:
            if self._tried_s != tried_s:
                return
            try:
                answer = settings_client("ssm").get_parameter(Name=self._parameter)
                self._rotated = msgspec.json.decode(
                    answer["Parameter"]["Value"], type=dict[str, list[str]]
                )
                self._pause_s = CUSTOMER_KEYS_TTL_S
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == _NOT_THERE:
                    self._rotated, self._pause_s = {}, CUSTOMER_KEYS_TTL_S
                else:
                    self._failed(code)
            except (BotoCoreError, msgspec.MsgspecError) as error:
                self._failed(type(error).__name__)
            finally:
                self._tried_s = self._clock()

    def _failed(self, why: str) -> None:
        self._pause_s = CUSTOMER_KEYS_REST_S
        _log.warning("parameter %s can't be read, known keys serve: %s", self._parameter, why)


def key_identity(arn: str) -> str:
    """What tells whether two ARNs name one key: its id, and its Region unless it is multi-Region.

    A multi-Region key and its replicas share their id and key material, so that what one of them
    wrapped every other one opens.

    Examples
    --------
    >>> key_identity("arn:aws:kms:eu-central-1:1:key/mrk-1") == key_identity(
    ...     "arn:aws:kms:eu-west-2:1:key/mrk-1"
    ... )
    True
    """
    parts = arn.split(":")
    if parts[-1].startswith("key/mrk-"):
        del parts[3]
    return ":".join(parts)


def region_of(arn: str) -> str:
    """The Region in a key's ARN."""
    return arn.split(":")[3]


def _listed(arns: str | Sequence[str]) -> tuple[str, ...]:
    return (arns,) if isinstance(arns, str) else tuple(arns)
