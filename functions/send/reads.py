"""Reads a transaction back from the tiers in their order; the tiers' functions hold the keys."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from federation.batch import TIERS
from send.intake import Refused
from send.problems import Problem

_HEX_DIGITS = frozenset("0123456789abcdef")
_ID_DIGITS = 64


class TierReader:
    """Asks the persist functions.

    Parameters
    ----------
    client : boto3 Lambda client
    functions : mapping of tier to function name
    """

    def __init__(self, client: Any, functions: Mapping[str, str]) -> None:
        self._client = client
        self._functions = functions

    def read(
        self,
        transaction_id: str,
        reader: str,
        continent: str | None = None,
        request_id: str = "",
    ) -> dict[str, Any]:
        """Receipt, header and content of a transaction, for its sender or its recipient.

        Parameters
        ----------
        continent : str, optional
            Where it probably lies: the reader's home.
        request_id : str
            Of the API; the audit trail tells for which request a key was used.

        Raises
        ------
        Problem
            400 for what is no id, 404 when no tier has it, 403 for a stranger, 503 when no tier
            that answers has it but one does not answer: it may lie there.
        """
        if len(transaction_id) != _ID_DIGITS or not _HEX_DIGITS.issuperset(transaction_id):
            raise Problem(
                HTTPStatus.BAD_REQUEST,
                "transaction_id: is 64 hex digits",
                field="transaction_id",
                rule="is 64 hex digits",
            )
        request = {
            "action": "fetch",
            "transaction_id": transaction_id,
            "continent": continent,
            "reader": reader,
            "request_id": request_id,
        }
        unreachable = []
        for tier in TIERS:
            answer = self._ask(tier, request)
            if answer["outcome"] == "found":
                return _shown(answer, reader)
            if answer["outcome"] == "unavailable":
                unreachable.append(tier)
        if unreachable:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"not found where it could be looked for; {', '.join(unreachable)} can't be reached",
                reason="tier_unavailable",
            )
        raise Problem(
            HTTPStatus.NOT_FOUND, "no receipt of this transaction (yet)", reason="unknown_id"
        )

    def health(self) -> list[dict[str, Any]]:
        """The state of each tier, in the order in which they are tried."""
        with ThreadPoolExecutor(len(TIERS)) as pool:
            return list(pool.map(self._tier_health, TIERS))

    def _tier_health(self, tier: str) -> dict[str, Any]:
        answer = self._ask(tier, {"action": "health"})
        return {
            "tier": tier,
            "state": answer.get("state", "down"),
            "reason": answer.get("reason"),
        }

    def _ask(self, tier: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = self._client.invoke(
                FunctionName=self._functions[tier], Payload=json.dumps(request).encode()
            )
            payload = json.loads(answer["Payload"].read())
        except (BotoCoreError, ClientError, ValueError) as error:
            return {"outcome": "unavailable", "reason": type(error).__name__}
        if answer.get("FunctionError") or not isinstance(payload, dict):
            return {"outcome": "unavailable", "reason": "function_failed"}
        return {"outcome": "unavailable", **payload}


def _shown(answer: Mapping[str, Any], reader: str) -> dict[str, Any]:
    header = answer["header"]
    if reader not in (header["sender"], header["recipient"]):
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "only sender and recipient may read a transaction",
            reason="not_a_party",
        )
    names = ("receipt", "header", "content", "place", "rewards")
    return {name: answer.get(name) for name in names}
