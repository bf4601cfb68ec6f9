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
#: What an answer may hold: for a party (`content`), or for a full node (from `votes` on).
_SHOWN = (
    "receipt",
    "header",
    "content",
    "place",
    "rewards",
    "votes",
    "algorithm",
    "public_key",
    "signature",
    "sealed",
)


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
        self, transaction_id: str, reader: Mapping[str, Any], continent: str | None = None
    ) -> dict[str, Any]:
        """As much of a transaction as the reader may see; the tiers' functions decide how much.

        Parameters
        ----------
        reader : mapping
            `account_id`, `request_id` and `signature_fields`, see `persist.readers.Reader`.
        continent : str, optional
            Where it probably lies: the reader's home.

        Raises
        ------
        Problem
            400 for what is no id, 404 when no tier has it, 403 for who may not read it, 503 when no
            tier that answers has stored it but one does not answer: it may lie there.
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
        }
        unreachable: list[str] = []
        rejected: dict[str, Any] | None = None
        for tier in TIERS:
            answer = self._ask(tier, request)
            if answer["outcome"] == "found":
                found = {name: answer[name] for name in _SHOWN if name in answer}
                if found["receipt"]["status"] != "rejected":
                    return found
                # A repetition may be refused in a tier that doesn't know the one that was stored.
                rejected = rejected or found
            if answer["outcome"] == "forbidden":
                raise Refused(HTTPStatus.FORBIDDEN, answer["detail"], reason=answer["reason"])
            if answer["outcome"] == "unavailable":
                unreachable.append(tier)
        if rejected is not None and not unreachable:
            return rejected
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
            "parts": answer.get("parts", []),
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
