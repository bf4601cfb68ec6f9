"""Runs one delegate: `love-node --level city|continent|global --config FILE`."""

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from love_node.config import load_config
from love_node.errors import NodeError
from love_node.registry import with_registry
from love_node.server import NodeServer


def main() -> int:
    """Serve until SIGTERM or SIGINT; non-zero with one message if it can't start."""
    options = argparse.ArgumentParser("love-node", description=__doc__)
    options.add_argument("--config", type=Path, required=True)
    options.add_argument("--level", choices=["city", "continent", "global"])
    chosen = options.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        config = with_registry(load_config(chosen.config, chosen.level))
        server = NodeServer(config)
    except NodeError as error:
        print(f"love-node: {error}", file=sys.stderr)
        return 1
    ready = {"ready": True, "address": config.address, "level": config.level}
    # In one piece: audit events come from other threads.
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    ended.wait()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
