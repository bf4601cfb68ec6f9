"""Deploys `template.yaml` into the local AWS by `sam deploy`, as it is and unbuilt."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from lovectl.errors import DeployFailed
from lovectl.gateway import apply_gateway_responses
from lovectl.paths import REPOSITORY, private_directory
from lovectl.policies import adapt_policies
from lovectl.processes import inherited_environment
from lovectl.servers import (
    LOCAL_ACCESS_KEY,
    LOCAL_REGION,
    LOCAL_SECRET_KEY,
    MiniStackServer,
)

STACK_NAME: Final = "love-currency-federation"
BUCKET: Final = "love-local-artifacts"
API_LOGICAL_ID: Final = "Api"
DEPLOY_TIMEOUT_S: Final = 180
#: Each overlapping call starts a process of its own here, and two cores carry only so many.
DISPATCHES_AT_ONCE: Final = 2
#: A page of this origin may call the local API from a browser.
CORS_ORIGIN: Final = "https://app.love.example"
#: Messages of the inbox that are taken a second here; `lovectl load` measures it.
DRAIN_PER_S: Final = 5
#: Reconcile runs when it is told to (`lovectl reconcile`), so that what a test sees doesn't move.
PARAMETERS: Final = (
    "ContinentsAtOnce=2",
    f"CorsOrigins={CORS_ORIGIN}",
    f"InboxDrainPerSecond={DRAIN_PER_S}",
    "ReconcileSchedule=DISABLED",
)
LAYERS: Final = ("rust_core", "federation", "dependencies")


def deploy(
    server: MiniStackServer,
    directory: Path,
    logs: Path,
    registry_pin: str,
    source: Path = REPOSITORY,
) -> dict[str, str]:
    """Deploy, and give the template's outputs.

    Parameters
    ----------
    server : MiniStackServer
    directory : Path
        For the prepared tree.
    logs : Path
        Where the log of `sam` goes.
    registry_pin : str
        Digest of the first delegate registry.
    source : Path
        Holds `template.yaml`, `functions/` and `statemachine/`.

    Raises
    ------
    DeployFailed
        With the last lines that `sam` said.
    """
    tree = _prepare(directory / "deploy", source)
    server.client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": LOCAL_REGION}
    )
    log = logs / "sam-deploy.log"
    with log.open("wb") as output:
        result = subprocess.run(
            [
                sys.executable,
                "-m",
                "samcli",
                "deploy",
                "--template-file",
                str(tree / "template.yaml"),
                "--stack-name",
                STACK_NAME,
                "--s3-bucket",
                BUCKET,
                "--capabilities",
                "CAPABILITY_IAM",
                "--region",
                LOCAL_REGION,
                "--parameter-overrides",
                *PARAMETERS,
                f"RegistryPin={registry_pin}",
                "--no-confirm-changeset",
                "--no-progressbar",
            ],
            cwd=tree,
            env=_environment(server, directory),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=DEPLOY_TIMEOUT_S,
            check=False,
        )
    if result.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-25:]
        raise DeployFailed("\n".join([f"sam deploy failed; its log is {log}", *tail]))
    outputs = _outputs(server.client("cloudformation"))
    apply_gateway_responses(
        server.client("apigateway"), tree / "template.yaml", {API_LOGICAL_ID: outputs["ApiId"]}
    )
    _limit_dispatches(server.client("lambda"))
    adapt_policies(server.client, STACK_NAME)
    return outputs


def _limit_dispatches(client: Any) -> None:
    """Set the limit by the API: out of a parameter it comes as text, over which MiniStack trips."""
    for mapping in client.list_event_source_mappings()["EventSourceMappings"]:
        client.update_event_source_mapping(
            UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": DISPATCHES_AT_ONCE}
        )


def _prepare(tree: Path, source: Path) -> Path:
    """A tree with the very template, the functions, and empty layers.

    Handlers run in this interpreter and see its packages. A layer that was not built is only its
    source, which would shadow the installed package.
    """
    shutil.rmtree(tree, ignore_errors=True)
    private_directory(tree)
    shutil.copyfile(source / "template.yaml", tree / "template.yaml")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    for name in ("functions", "statemachine"):
        shutil.copytree(source / name, tree / name, ignore=ignored)
    for name in LAYERS:
        layer = private_directory(tree / "layers" / name)
        (layer / "README").write_text("The interpreter that runs the handlers has these packages.")
    return tree


def _environment(server: MiniStackServer, directory: Path) -> dict[str, str]:
    """`sam` reaches nothing but the local AWS: no telemetry, no look for a newer version."""
    home = private_directory(directory / "sam")
    (home / "metadata.json").write_bytes(
        msgspec.json.encode({"telemetryEnabled": False, "lastVersionCheck": time.time()})
    )
    return {
        **inherited_environment(),
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_CA_BUNDLE": str(server.pki.ca_file),
        "AWS_ACCESS_KEY_ID": LOCAL_ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": LOCAL_SECRET_KEY,
        "AWS_DEFAULT_REGION": LOCAL_REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.1",
        "__SAM_CLI_APP_DIR": str(home),
        "PYTHONUNBUFFERED": "1",
    }


def _outputs(client: Any) -> dict[str, str]:
    stacks = client.describe_stacks(StackName=STACK_NAME)["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in stacks[0].get("Outputs", [])}
