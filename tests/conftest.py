"""One running stack for all suites that need the whole system (e2e, simulation)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lovectl.access import Access


@pytest.fixture(scope="session")
def access() -> "Iterator[Access]":
    """The stack, seen from outside; started once a session, taken down at its end."""
    from lovectl.access import started_access

    with started_access("tests") as running:
        yield running
