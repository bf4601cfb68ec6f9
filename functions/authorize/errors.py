"""Why a caller is turned away, and which status says so."""

from federation.errors import FederationError


class Unauthenticated(FederationError):
    """There is no good token: 401."""

    def __init__(self, reason: str, detail: str, subject: str = "unknown") -> None:
        super().__init__(reason, detail)
        self.subject = subject


class Forbidden(FederationError):
    """The token is good, the certificate is not: 403."""

    def __init__(self, reason: str, detail: str, subject: str = "unknown") -> None:
        super().__init__(reason, detail)
        self.subject = subject
