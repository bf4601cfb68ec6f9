"""What several unit tests share: envelopes as `send` puts them into the inbox."""

from collections.abc import Callable

import pytest

from federation.transaction import Envelope, Header, Position, Sealed


def _envelope(number: int, content_bytes: int, key: int) -> Envelope:
    header = Header(
        version=1,
        transaction_id=f"{number:064x}",
        sender="a" * 64,
        recipient="b" * 64,
        amount=1,
        nonce=number,
        position=Position(0, 0, 1, 0),
        reads=[],
        writes=[],
    )
    return Envelope(
        header=header,
        algorithm="Ed25519",
        public_key="k" * 44,
        signature="s" * 88,
        sealed=Sealed(key_id=f"reader.{key}", ciphertext="c" * content_bytes),
        accepted_at_ms=number,
        request_id="r",
        wrapped_key=f"wrapped {key}",
    )


@pytest.fixture(scope="session")
def envelope() -> Callable[[int, int, int], Envelope]:
    """Makes the envelope of a number, with so much content, sealed under this numbered key."""
    return _envelope


KNOWN_ANSWERS = "known answers"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many cases of each outside suite were checked."""
    lines = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == KNOWN_ANSWERS
    ]
    if lines:
        terminalreporter.section(KNOWN_ANSWERS)
        for line in lines:
            terminalreporter.line(str(line))
