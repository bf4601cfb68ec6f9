"""The dApp's side of the API: posts signed transactions over HTTPS and reads their receipts."""

import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from lovectl.accounts import Account
from lovectl.queries import Node, sign_query

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 30.0
ATTEMPTS_MAX: Final = 4
ATTEMPT_PAUSE_S: Final = 0.5
CONNECTIONS_MAX: Final = 16


class ApiError(Exception):
    """The API refused or failed; `problem` is its problem+json body (RFC 9457), if it had one."""

    def __init__(self, status: int, problem: Mapping[str, Any], what: str) -> None:
        detail = problem.get("detail") or problem.get("title") or "no detail given"
        field = f" (field {problem['field']})" if problem.get("field") else ""
        super().__init__(f"{what}: HTTP {status}: {detail}{field}")
        self.status = status
        self.problem = problem


class Client:
    """Calls of one API.

    A call that may be repeated (all are: a transaction is named by its content) is repeated a few
    times when the API says 503 or can't be reached.

    Examples
    --------
    >>> with Client(api_url, ca_file) as client:                                # doctest: +SKIP
    ...     client.send(account, [document])
    ['5f0c…']
    """

    def __init__(self, api_url: str, ca_file: Path | str | None) -> None:
        context = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self._http = httpx.Client(
            base_url=api_url.rstrip("/") + "/",
            verify=context,
            trust_env=False,
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._http.close()

    def send(
        self,
        account: Account,
        documents: Sequence[Mapping[str, Any]],
        *,
        attempts: int = ATTEMPTS_MAX,
    ) -> list[str]:
        """Post signed transactions of one account; returns their ids once the API said 202.

        Raises
        ------
        ApiError
            Any other answer; nothing of this post was claimed as accepted.
        """
        if len(documents) == 1:
            answer = self._call(
                "POST", "api/send_transaction", account, attempts, json=documents[0]
            )
            return [answer["transaction_id"]]
        body = {"transactions": list(documents)}
        answer = self._call("POST", "api/send_transactions", account, attempts, json=body)
        return [entry["transaction_id"] for entry in answer["transactions"]]

    def read(self, account: Account, transaction_id: str) -> dict[str, Any] | None:
        """The receipt, header and opened content of a transaction; `None` while it is unknown."""
        try:
            # Whoever waits for a receipt asks again anyway.
            return self._call("GET", f"api/transaction/{transaction_id}", account, attempts=1)
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def fetch_as_node(self, account: Account, node: Node, transaction_id: str) -> dict[str, Any]:
        """A transaction as a full node sees it: receipt, header, votes, and the content sealed.

        Raises
        ------
        ApiError
            403 when the node is no full node; 404 while the transaction is unknown.
        """
        path = f"api/transaction/{transaction_id}"
        signed = sign_query(node, transaction_id)
        # A signature is good for one request.
        return self._call("GET", path, account, attempts=1, signed=signed)

    def health(self) -> dict[str, Any]:
        """What `GET /api/health` says of each tier."""
        response = self._http.get("api/health")
        answer: dict[str, Any] = response.json()
        return answer

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One bare request, for tests of bad input."""
        return self._http.request(method, path, **options)

    def _call(
        self,
        method: str,
        path: str,
        account: Account,
        attempts: int = ATTEMPTS_MAX,
        signed: Mapping[str, str] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        headers = {**account.headers(), **(signed or {})}
        attempt = 1
        while True:
            problem: dict[str, Any]
            try:
                response = self._http.request(method, path, headers=headers, **options)
            except httpx.TransportError as error:
                status, problem = 0, {"detail": f"not reached: {error}"}
            else:
                if response.is_success:
                    answer: dict[str, Any] = response.json()
                    return answer
                status, problem = response.status_code, _problem(response)
            retryable = status == 0 or status >= httpx.codes.INTERNAL_SERVER_ERROR
            if not retryable or attempt == attempts:
                raise ApiError(status, problem, f"{method} {path}")
            time.sleep(ATTEMPT_PAUSE_S * attempt)
            attempt += 1


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {"detail": response.text[:200]}
    return body if isinstance(body, dict) else {"detail": str(body)[:200]}
