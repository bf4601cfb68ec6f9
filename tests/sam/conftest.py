"""The built functions in an image like Lambda's, and a local AWS with the deployed template behind them."""

import ipaddress
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import samcli
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from engine.docker import Docker, engine

from lovectl.accounts import Issuer
from lovectl.compose_keys import (
    OFFLINE,
    REGISTRY_PIN_FILE,
    SEALING_KEY_ID,
    SECRETS_FILE,
    TOKEN_AUDIENCE,
    TOKEN_ISSUER,
    TOKEN_KEY_ID,
    make_keys,
)
from lovectl.deploy import deploy
from lovectl.paths import REPOSITORY, private_directory
from lovectl.pki import TransportPki
from lovectl.processes import free_ports
from lovectl.sample_events import sample_events, write_events
from lovectl.servers import (
    LOCAL_REGION,
    MiniStackServer,
)
from lovectl.trust import Trust, create_secrets

BUILT = REPOSITORY / ".aws-sam" / "build"
IMAGE = "love-lambda:3.13"
RUNTIME = "/var/runtime"
#: As Lambda's own: the client of the runtime's interface calls the handler.
BOOTSTRAP = f"""#!/bin/sh
export PYTHONPATH={RUNTIME}:/var/task:/opt/python
exec /usr/bin/python3.13 -m awslambdaric "$_HANDLER"
"""
INVOKE_TIMEOUT_S = 300
#: Lambda assumes a function's role; here the tests do, who are the account's root.
ASSUMABLE = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
            "Action": "sts:AssumeRole",
        }
    ],
}
#: Stores as `compose_keys` names them; here none is there, and the answer comes at once.
ELSEWHERE = re.compile(r"\b(immudb|mongo-\d\.love\.internal)(?=[:,/])")


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """An engine of this test run's own."""
    home = os.environ.get("LOVE_ENGINE")
    if home is None:
        pytest.fail("these tests are run by `make test-sam`")
    with engine(Path(home)) as running:
        yield running


class Forwarder:
    """Takes clear connections on the containers' network to a TLS server of loopback."""

    def __init__(self, address: str, port: int, target_port: int, ca_file: Path) -> None:
        self._target_port = target_port
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._listener = socket.create_server((address, port))
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        plain = socket.create_connection(("127.0.0.1", self._target_port))
        server = self._context.wrap_socket(plain, server_hostname="localhost")
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        _pump(server, client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()


class Functions:
    """The built functions, each called by `sam local invoke` with its event."""

    def __init__(
        self, docker: Docker, server: MiniStackServer, events: Path, outputs: dict[str, str]
    ) -> None:
        self.docker, self.server, self.events, self.outputs = docker, server, events, outputs
        self._variables = events / "variables.json"
        client = server.client("lambda")
        stack = server.client("cloudformation").describe_stack_resources(
            StackName="love-currency-federation"
        )["StackResources"]
        names = {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for one in stack
            if one["ResourceType"] == "AWS::Lambda::Function"
        }
        deployed = {
            logical: client.get_function_configuration(FunctionName=physical)
            for logical, physical in names.items()
        }
        self.names = sorted(deployed)
        variables = {
            logical: {**found["Environment"]["Variables"], "POWERTOOLS_TRACE_DISABLED": "true"}
            for logical, found in deployed.items()
        }
        self._variables.write_text(json.dumps(variables))
        self._roles = {logical: found["Role"] for logical, found in deployed.items()}

    def invoke(self, name: str, event: dict[str, Any] | None = None) -> Any:
        """What the function answers; its error, if it has one, fails the test."""
        file = self.events / f"{name}.json"
        if event is not None:
            file = self.events / "special.json"
            file.write_text(json.dumps(event))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "samcli", "local", "invoke", name),
                *("--template-file", str(BUILT / "template.yaml"), "--event", str(file)),
                *("--env-vars", str(self._variables), "--region", LOCAL_REGION),
                *("--skip-pull-image", "--invoke-image", IMAGE),
            ],
            env={
                **self.docker.environment,
                **self._credentials(name),
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
                "SAM_CLI_TELEMETRY": "0",
                "__SAM_CLI_APP_DIR": str(self.events / "sam"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INVOKE_TIMEOUT_S,
            check=False,
        )
        # sam exits with 0 also when the handler fails: what counts is the answer.
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        assert done.returncode == 0, done.stderr[-4000:]
        assert lines, done.stderr[-4000:]
        answer = json.loads(lines[-1])
        assert not (isinstance(answer, dict) and "errorType" in answer), (
            answer,
            done.stderr[-4000:],
        )
        return answer

    def _credentials(self, name: str) -> dict[str, str]:
        """Of a session of the function's own role, as Lambda gives them: keys let nobody else in."""
        role = self._roles[name]
        self.server.client("iam").update_assume_role_policy(
            RoleName=role.rpartition("/")[2], PolicyDocument=json.dumps(ASSUMABLE)
        )
        session = self.server.client("sts").assume_role(RoleArn=role, RoleSessionName=name)
        return {
            "AWS_ACCESS_KEY_ID": session["Credentials"]["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": session["Credentials"]["SecretAccessKey"],
            "AWS_SESSION_TOKEN": session["Credentials"]["SessionToken"],
        }


@pytest.fixture(scope="session")
def functions(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    """The functions in their image, the template deployed, fresh events of keys that it trusts."""
    directory = tmp_path_factory.mktemp("sam")
    keys = directory / "keys"
    make_keys(keys)
    pki = TransportPki(keys / OFFLINE / "tls")
    subnet = docker.says(
        "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}"
    )
    # The bridge's own address, on this machine and on the containers' network alone.
    gateway = str(next(ipaddress.ip_network(subnet).hosts()))
    aws_port, port = free_ports(2)
    server = MiniStackServer(private_directory(directory / "aws"), aws_port, pki)
    server.start()
    forwarder = Forwarder(gateway, port, aws_port, pki.ca_file)
    try:
        text = (keys / "api" / SECRETS_FILE).read_text()
        secrets = json.loads(ELSEWHERE.sub("127.0.0.1", text))
        create_secrets(server.client("secretsmanager"), secrets)
        pin = (keys / "api" / REGISTRY_PIN_FILE).read_text()
        outputs = deploy(server, directory, private_directory(directory / "logs"), pin)
        _make_image(docker, directory / "image", f"http://{gateway}:{port}")
        events = private_directory(directory / "events")
        # `dispatch` has a transaction of its own: the pipeline of the local AWS stores it.
        dispatched = {"DispatchFunction": _trusted_events(keys)["DispatchFunction"]}
        write_events(events, {**_trusted_events(keys), **dispatched})
        yield Functions(docker, server, events, outputs)
    finally:
        forwarder.close()
        server.stop()


def _make_image(docker: Docker, directory: Path, endpoint_url: str) -> None:
    """Lambda's python3.13 out of Debian's: the runtime's client and the interface's emulator in it."""
    runtime = directory / RUNTIME.lstrip("/")
    runtime.mkdir(parents=True)
    wheels = Path(os.environ["LOVE_ENGINE"]) / "runtime"
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(runtime)
    (runtime / "bootstrap").write_text(BOOTSTRAP)
    (runtime / "bootstrap").chmod(0o755)
    rapid = directory / "var" / "rapid"
    rapid.mkdir(parents=True)
    emulator = Path(samcli.__file__).parent / "local" / "rapid" / "aws-lambda-rie-x86_64"
    shutil.copy(emulator, rapid / "aws-lambda-rie")
    (rapid / "aws-lambda-rie").chmod(0o755)
    dockerfile = directory / "Dockerfile"
    dockerfile.write_text(
        "FROM love-base:trixie\nCOPY var /var\n"
        "ENV LANG=C.UTF-8 LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime "
        f"AWS_ENDPOINT_URL={endpoint_url} AWS_EC2_METADATA_DISABLED=true\n"
        "WORKDIR /var/task\n"
        'ENTRYPOINT ["/var/rapid/aws-lambda-rie"]\n'
    )
    docker.build(dockerfile, directory, IMAGE)


def _trusted_events(keys: Path) -> dict[str, dict[str, Any]]:
    trust = Trust(keys / OFFLINE / "federation")
    issuer = Issuer(trust.ca, trust.token_key, TOKEN_KEY_ID, TOKEN_ISSUER, TOKEN_AUDIENCE)

    def sign_vote(delegate_id: str, message: bytes) -> bytes:
        key = load_pem_private_key((keys / delegate_id / "key.pem").read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        return key.sign(message)

    public_key = (trust.directory / "sealing-public").read_bytes()
    assert (
        json.loads((keys / "api" / SECRETS_FILE).read_bytes())["love/trust"]["sealing"]["key_id"]
        == SEALING_KEY_ID
    )
    return sample_events(issuer, public_key, sign_vote)
