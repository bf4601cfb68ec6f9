"""Puts a breaker before KMS: not before what data keys in memory do without it.

botocore tells of each call by events: `before-call` may stop it, `after-call` has the answer,
`after-call-error` what was raised instead.
"""

import time
from typing import Any, Final

from botocore.exceptions import BotoCoreError

from federation.breaker import StoreBreakers

_SERVER_ERROR: Final = 500
#: Answers that say "not now", of which KMS gives some with status 400.
_BUSY: Final = frozenset({"ThrottlingException", "LimitExceededException", "KMSInternalException"})
_ASKED: Final = "love_breaker"
_STARTED: Final = "love_started_s"


class KmsResting(BotoCoreError):
    """The breaker before KMS is open."""

    fmt = "KMS: {why}"


class KmsGuard:
    """Asks a breaker before each call of KMS, and tells it what came of it.

    That KMS refuses (a disabled key, a missing right) is an answer: it closes the breaker.
    """

    def __init__(self, breakers: StoreBreakers) -> None:
        self._breakers = breakers

    def watch(self, session: Any) -> None:
        """Guard all KMS clients that this botocore session makes from now on."""
        session.register("before-call.kms", self._before)
        session.register("after-call.kms", self._after)
        session.register("after-call-error.kms", self._failed)

    def _before(self, context: dict[str, Any], **call: Any) -> None:
        del call
        breaker = self._breakers.current
        if not breaker.allows():
            raise KmsResting(why=breaker.resting())
        context[_ASKED], context[_STARTED] = breaker, time.perf_counter()

    def _after(
        self, http_response: Any, parsed: dict[str, Any], context: dict[str, Any], **call: Any
    ) -> None:
        del call
        code = parsed.get("Error", {}).get("Code", "")
        if http_response.status_code >= _SERVER_ERROR or code in _BUSY:
            context[_ASKED].failed(code or str(http_response.status_code))
        else:
            context[_ASKED].succeeded(time.perf_counter() - context[_STARTED])

    def _failed(self, exception: Exception, context: dict[str, Any], **call: Any) -> None:
        del call
        context[_ASKED].failed(type(exception).__name__)
