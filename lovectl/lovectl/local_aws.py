"""Runs MiniStack as `python -m ministack` does, with one correction to how it enforces policies.

`Decrypt` of a symmetric ciphertext names no key (CSFLE's calls don't), so the key that policies are
asked about is taken from the ciphertext. MiniStack looks for a UUID there, but the id of a multi-Region
key is `mrk-` and 32 hex digits: it would ask about "any key", which no policy here allows.
"""

import importlib
import re
from typing import Any, Final

KEY_ID: Final = re.compile(
    r"^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$"
)
PATTERN_NAME: Final = "_KMS_KEY_ID_RE"


def main() -> None:
    """Correct, then serve until it is stopped."""
    actions: Any = importlib.import_module("ministack.core.iam_actions")
    if not hasattr(actions, PATTERN_NAME):
        raise SystemExit(
            f"this version of MiniStack has no {PATTERN_NAME}: see lovectl/local_aws.py"
        )
    setattr(actions, PATTERN_NAME, KEY_ID)
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
