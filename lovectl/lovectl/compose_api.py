"""Serves the API in a container: the local AWS with the deployed template, before other stores and nodes.

`python -m lovectl.compose_api --settings DIR`; `--healthy` asks the one that runs.

What `lovectl up` starts beside it (stores, delegates, the token issuer) are containers here, and the
secrets that `lovectl compose-keys` made say where they are.
"""

import argparse
import json
import shutil
import signal
import ssl
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Final

from lovectl.compose_keys import REGISTRY_PIN_FILE, SECRETS_FILE
from lovectl.deploy import STACK_NAME, deploy
from lovectl.errors import StackError
from lovectl.paths import private_directory, write_private
from lovectl.pki import TransportPki
from lovectl.servers import MiniStackServer
from lovectl.trust import create_secrets
from lovectl.warm import warm_up

PORT: Final = 4566
STAGE: Final = "live"
#: All that it writes; a file system in memory.
DIRECTORY: Final = Path("/tmp/love")  # noqa: S108
URL_FILE: Final = "api-url"
HEALTH_TIMEOUT_S: Final = 8.0


def serve(settings: Path, directory: Path = DIRECTORY, port: int = PORT) -> None:
    """Start the local AWS, deploy, and return when SIGTERM or SIGINT asks for the end.

    Parameters
    ----------
    settings : Path
        Holds `secrets.json`, and the API's certificates as `TransportPki` names them.

    Raises
    ------
    StackError
        The local AWS did not start, or the deployment failed.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    shutil.rmtree(directory, ignore_errors=True)
    private_directory(directory)
    pki = TransportPki(settings)
    server = MiniStackServer(
        private_directory(directory / "ministack"),
        port,
        pki,
        # Who reaches the container's port is Compose's to say. There is no X-Ray daemon here.
        {"BIND_HOST": "0.0.0.0", "POWERTOOLS_TRACE_DISABLED": "true"},  # noqa: S104
    )
    server.start()
    try:
        secrets = json.loads((settings / SECRETS_FILE).read_bytes())
        create_secrets(server.client("secretsmanager"), secrets)
        registry_pin = (settings / REGISTRY_PIN_FILE).read_text()
        outputs = deploy(server, directory, private_directory(directory / "logs"), registry_pin)
        for failure in warm_up(server.client, STACK_NAME):
            print(f"warning: {failure}", file=sys.stderr)
        url = f"{server.endpoint_url}/_aws/execute-api/{outputs['ApiId']}/{STAGE}"
        write_private(directory / URL_FILE, url)
        print(json.dumps({"ready": True, "api_url": url}), flush=True)
        while not ended.wait(1):
            if not server.is_running():
                raise StackError(f"the local AWS ended; its log is {server.log}")
    finally:
        server.stop()


def is_healthy(settings: Path, directory: Path = DIRECTORY) -> bool:
    """Whether the API answers its health request; a tier that is down doesn't make it unhealthy."""
    try:
        url = (directory / URL_FILE).read_text()
        context = ssl.create_default_context(cafile=str(TransportPki(settings).ca_file))
        with urllib.request.urlopen(  # noqa: S310 - an https URL that `serve` wrote
            f"{url}/api/health", timeout=HEALTH_TIMEOUT_S, context=context
        ) as answer:
            return "tiers" in json.load(answer)
    except (OSError, ValueError):
        return False


def main() -> int:
    """Serve, or tell by the exit code whether the API is healthy."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--settings", type=Path, default=Path("/run/love"))
    options.add_argument("--directory", type=Path, default=DIRECTORY)
    options.add_argument("--healthy", action="store_true")
    chosen = options.parse_args()
    if chosen.healthy:
        return 0 if is_healthy(chosen.settings, chosen.directory) else 1
    try:
        serve(chosen.settings, chosen.directory)
    except StackError as error:
        print(f"love-api: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
