"""Brings the local stack up, finds it while it runs, and takes it down.

>>> with running("tests") as stack:  # doctest: +SKIP
...     stack.proxies.down("mongo-asia")
...     stack.client("sqs").list_queues()
"""

import fcntl
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from federation.regions import CLUSTERS
from lovectl import binaries
from lovectl.delegates import (
    NODES,
    NODES_DIRECTORY,
    Delegate,
    genesis,
    give_registry,
    make_delegates,
)
from lovectl.deploy import STACK_NAME, deploy
from lovectl.errors import AlreadyRunning, NotRunning
from lovectl.issuer import publish_keys
from lovectl.paths import REPOSITORY, private_directory
from lovectl.pki import TransportPki
from lovectl.processes import LOOPBACK, accepts_connections, free_ports, stop
from lovectl.server_process import Server
from lovectl.servers import (
    FerretDbServer,
    FrontServer,
    ImmuDbServer,
    IssuerServer,
    MiniStackServer,
    NodeServer,
    ToxiproxyServer,
    aws_client,
    mongo_uri,
    session_arguments,
)
from lovectl.state import (
    Proxy,
    RunningServer,
    StackState,
    load_state,
    stack_directory,
)
from lovectl.toxiproxy import Toxiproxy
from lovectl.trust import Trust, create_secrets, make_password, stack_secrets
from lovectl.warm import warm_up

DEFAULT_NAME: Final = "local"
STAGE: Final = "live"
#: Below a stack's directory.
ISSUER_KEYS_FILE: Final = Path("issuer") / "jwks.json"
#: Proxies in front of the local AWS, each for one service.
AWS_PROXIES: Final = {"dynamodb": "DYNAMODB", "inbox": "SQS", "kms": "KMS"}
#: Stores that don't insist on a client certificate by themselves, each with the front before it.
FRONTS: Final = {"immudb": "front-immudb", "dynamodb": "front-dynamodb"}

Say = Callable[[str], None]


class Stack:
    """A running stack.

    Attributes
    ----------
    state : StackState
    directory : Path
    proxies : Toxiproxy
        `mongo-asia` … `mongo-me`, `immudb`, `dynamodb`, `inbox`, `kms`, `issuer`, and each node.
    pki : TransportPki
        TLS files; `pki.ca_file` is the CA of the API too.
    """

    def __init__(self, state: StackState) -> None:
        self.state = state
        self.directory = Path(state.directory)
        self.proxies = Toxiproxy(state.toxiproxy_port)
        self.pki = TransportPki(self.directory / "tls")

    @property
    def api_url(self) -> str:
        """Base URL of the API, without a closing slash."""
        return self.state.api_url

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of template.yaml."""
        return self.state.outputs

    @property
    def trust(self) -> Trust:
        """The federation's CA and the token issuer's key."""
        return Trust(self.directory / "federation")

    def session(self) -> dict[str, Any]:
        """Keyword arguments of a `boto3.Session`."""
        return session_arguments()

    def client(self, service: str, **options: Any) -> Any:
        """A boto3 client of the local AWS, not through a proxy."""
        return aws_client(service, self.state.endpoint_url, self.pki.ca_file, **options)

    def port_of(self, name: str) -> int:
        """The port that server `name` itself listens on, not its proxy's."""
        return self.state.servers[name].port

    def mongo_uri(self, continent: str) -> str:
        """A continent's store, not through its proxy, with the TLS files in the URI."""
        return mongo_uri(self.port_of(_cluster(continent)), self.pki)

    def revoke(self, *serials: int) -> None:
        """Publish a revocation list of exactly these serials of account certificates."""
        import json

        secret = self.trust.trust_secret(self.state, self.pki, serials)
        self.client("secretsmanager").put_secret_value(
            SecretId="love/trust", SecretString=json.dumps(secret)
        )

    def publish_token_keys(self, jwk_set: dict[str, Any]) -> None:
        """Let the token issuer serve exactly these keys."""
        publish_keys(self.directory / ISSUER_KEYS_FILE, jwk_set)

    def down(self) -> None:
        """Stop everything; logs stay, data and keys go."""
        # As it was last saved: `lovectl registry apply` starts nodes anew.
        take_down(load_state(self.state.name) or self.state)


@contextmanager
def running(
    name: str = DEFAULT_NAME,
    say: Say | None = None,
    source: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """A stack of its own for as long as the block lasts, also when it fails."""
    stack = up(name, say, source, environment)
    try:
        yield stack
    finally:
        stack.down()


def find(name: str = DEFAULT_NAME) -> Stack | None:
    """The stack of this name if all of it runs."""
    state = load_state(name)
    return Stack(state) if state is not None and state.all_running() else None


def up(
    name: str = DEFAULT_NAME,
    say: Say | None = None,
    source: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
) -> Stack:
    """Start every server, deploy the template, and give the running stack.

    The servers end with this process, however it ends, unless `lovectl.guardian.release_all` is
    called once it is up.

    Parameters
    ----------
    name : str
        Letters, digits and hyphens; several stacks may run side by side.
    say : callable, optional
        Gets a line of progress now and then; by default they go to standard error.
    source : Path
        Holds `template.yaml`, `functions/` and `statemachine/`.
    environment : mapping, optional
        Settings of functions over the local stack's own; an empty one leaves the function's default.

    Raises
    ------
    AlreadyRunning
        One of this name runs, or is being started.
    StackError
        A server could not be built, did not start, or the deployment failed. Whatever was
        started is stopped then.
    """
    directory = private_directory(stack_directory(name))
    with _only_one(directory.with_suffix(".lock"), name):
        old = load_state(name)
        if old is not None:
            if old.all_running():
                raise AlreadyRunning(name)
            take_down(old)  # what is left of one that died
        shutil.rmtree(directory)
        settings = dict(environment or {})
        return _Starting(
            name, private_directory(directory), say or _to_stderr, source, settings
        ).start()


def take_down(state: StackState) -> None:
    """Stop the servers of this stack, each only if it is the very process that was started."""
    # MiniStack first: its handlers hold connections to all others.
    names = sorted(state.servers, key=lambda each: each != "ministack")
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        for name in names:
            pool.submit(stop, state.servers[name].process)
    directory = Path(state.directory)
    for entry in directory.iterdir() if directory.is_dir() else ():
        if entry.name == "logs":
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def status(name: str = DEFAULT_NAME) -> dict[str, Any]:
    """What runs and what does not.

    Raises
    ------
    NotRunning
        No stack of this name was started.
    """
    state = load_state(name)
    if state is None:
        raise NotRunning(name)
    toxiproxy = Toxiproxy(state.toxiproxy_port)
    servers = {
        each: "up" if server.process.is_running() and accepts_connections(server.port) else "down"
        for each, server in state.servers.items()
    }
    proxies: dict[str, str] = {}
    if servers.get("toxiproxy") == "up":
        proxies = {each: "up" if toxiproxy.is_up(each) else "down" for each in state.proxies}
    return {
        "name": state.name,
        "state": "up" if state.all_running() else "broken",
        "api_url": state.api_url,
        "aws_endpoint_url": state.endpoint_url,
        "ca_file": str(Path(state.directory) / "tls" / "ca.pem"),
        "logs": str(Path(state.directory) / "logs"),
        "servers": servers,
        "proxies": proxies,
    }


class _Starting:
    """One start of a stack, from nothing to the deployed template."""

    def __init__(
        self, name: str, directory: Path, say: Say, source: Path, environment: dict[str, str]
    ) -> None:
        self.environment = environment
        self.directory = directory
        self.logs = private_directory(directory / "logs")
        self.say = say
        self.source = source
        self.servers: list[Server] = []
        names = [
            "toxiproxy",
            "ministack",
            "issuer",
            *CLUSTERS.values(),
            "immudb",
            *FRONTS.values(),
            *NODES,
        ]
        proxied = ["issuer", *CLUSTERS.values(), "immudb", *AWS_PROXIES, *NODES]
        ports = free_ports(len(names) + len(proxied))
        self.ports = dict(zip(names, ports, strict=False))
        listen = dict(zip(proxied, ports[len(names) :], strict=True))
        self.state = StackState(
            name=name,
            started_at_ms=time.time_ns() // 1_000_000,
            directory=str(directory),
            endpoint_url=f"https://{LOOPBACK}:{self.ports['ministack']}",
            toxiproxy_port=self.ports["toxiproxy"],
            immudb_password=make_password(),
            token_issuer="https://issuer.love.example",  # noqa: S106
            token_audience="https://api.love.example",  # noqa: S106
            token_key_id="local-1",  # noqa: S106
            sealing_key_id="sealing-1",
            proxies={
                each: Proxy(
                    listen_port=port,
                    upstream_port=self.ports.get(FRONTS.get(each, each), self.ports["ministack"]),
                )
                for each, port in listen.items()
            },
        )

    def start(self) -> Stack:
        binaries.build_all(("toxiproxy", "ferretdb", "immudb", "front"))
        began_s = time.monotonic()
        try:
            stack = self._start()
        except BaseException:
            # Also on Ctrl-C: nothing may be left running that nobody knows of.
            take_down(self.state)
            raise
        self.say(f"stack {self.state.name!r} is up after {time.monotonic() - began_s:.1f} s")
        return stack

    def _start(self) -> Stack:
        pki = TransportPki.create(self.directory / "tls")
        ministack = self._ministack(pki)
        self._launch(ministack)
        # The rest is launched while MiniStack imports its services, and `sam` its own.
        toxiproxy = ToxiproxyServer(self.ports["toxiproxy"], self.logs / "toxiproxy.log")
        self._launch(toxiproxy)
        trust = Trust.create(self.directory / "federation")
        delegates = make_delegates(
            self.directory / NODES_DIRECTORY, [self.ports[each] for each in NODES], pki
        )
        registry = genesis(
            delegates, lambda each: f"{LOOPBACK}:{self.state.proxies[each].listen_port}"
        )
        for delegate in delegates:
            give_registry(delegate.directory, [registry])
        self.state = msgspec.structs.replace(self.state, registry_pin=registry.digest)
        issuer = self._issuer(pki, trust)
        for server in (issuer, *self._stores(pki), *self._nodes(delegates)):
            self._launch(server)
        toxiproxy.wait_ready()
        toxiproxy.api.add_all(
            {
                name: (proxy.listen_port, proxy.upstream_port)
                for name, proxy in self.state.proxies.items()
            }
        )
        ministack.wait_ready()
        create_secrets(
            ministack.client("secretsmanager"), stack_secrets(self.state, trust, pki, registry)
        )
        self.say("servers are starting; deploying template.yaml")
        outputs = deploy(ministack, self.directory, self.logs, registry.digest, self.source)
        for server in self.servers:
            server.wait_ready()
        api_url = f"{self.state.endpoint_url}/_aws/execute-api/{outputs['ApiId']}/{STAGE}"
        self._save(outputs=outputs, api_url=api_url)
        stack = Stack(self.state)
        for failure in warm_up(stack.client, STACK_NAME):
            self.say(f"warning: {failure}")
        return stack

    def _ministack(self, pki: TransportPki) -> MiniStackServer:
        # Handlers inherit MiniStack's environment, so this is how they come to use the proxies,
        # and template.yaml needs nothing that is local.
        environment = {
            f"AWS_ENDPOINT_URL_{service}": (
                f"https://{LOOPBACK}:{self.state.proxies[proxy].listen_port}"
            )
            for proxy, service in AWS_PROXIES.items()
        }
        # Stands for a gateway before DynamoDB that asks for a certificate.
        environment["DYNAMODB_CLIENT_CERTIFICATE_FILE"] = str(pki.client_pem_file)
        # There is no X-Ray daemon here.
        environment["POWERTOOLS_TRACE_DISABLED"] = "true"
        # All servers share a few cores here: the stores' time-outs on AWS would trip for nothing,
        # and a write that is given up though it arrives has a second copy in the next tier.
        environment["PERSIST_TIMEOUT_MS"] = "1500"
        environment["PERSIST_SLOW_MS"] = "1200"
        environment["COLD_TIMEOUT_MS"] = "3000"
        environment["KMS_TIMEOUT_MS"] = "1500"
        environment["POSITIONS_TIMEOUT_MS"] = "500"
        environment["VOTE_DEADLINE_MS"] = "500"
        environment["EXECUTIONS_AT_ONCE"] = "1"
        # Who breaks a store here doesn't want to wait for minutes once it is back.
        environment["BREAKER_PATIENCE_S"] = "3"
        environment["AUDIT_BACKOFF_MAX_S"] = "2"
        environment["BACKOFF_MAX_S"] = "5"
        environment["RATE_TIMEOUT_MS"] = "1500"
        environment["INBOX_DEPTH_TIMEOUT_MS"] = "1500"
        # So that a test needn't wait five minutes for a key that was taken away.
        environment["JWKS_TTL_S"] = "20"
        environment["JWKS_COOLDOWN_S"] = "1"
        environment.update(self.environment)
        return MiniStackServer(
            private_directory(self.directory / "ministack"),
            self.ports["ministack"],
            pki,
            environment,
            self.logs / "ministack.log",
        )

    def _issuer(self, pki: TransportPki, trust: Trust) -> IssuerServer:
        keys_file = self.directory / ISSUER_KEYS_FILE
        publish_keys(keys_file, trust.token_keys(self.state))
        return IssuerServer(keys_file, self.ports["issuer"], pki, self.logs / "issuer.log")

    def _stores(self, pki: TransportPki) -> Iterator[Server]:
        for cluster in CLUSTERS.values():
            yield FerretDbServer(
                cluster,
                self.directory / "data" / cluster,
                self.ports[cluster],
                pki,
                self.logs / f"{cluster}.log",
            )
        yield ImmuDbServer(
            self.directory / "data" / "immudb",
            self.ports["immudb"],
            pki,
            self.state.immudb_password,
            self.logs / "immudb.log",
        )
        for store, front in FRONTS.items():
            yield FrontServer(
                front,
                self.ports[front],
                self.ports.get(store, self.ports["ministack"]),
                pki,
                self.logs / f"{front}.log",
            )

    def _nodes(self, delegates: list[Delegate]) -> Iterator[Server]:
        for delegate in delegates:
            yield NodeServer(
                delegate.delegate_id,
                delegate.config_file,
                delegate.port,
                self.logs / f"{delegate.delegate_id}.log",
            )

    def _launch(self, server: Server) -> None:
        server.launch()
        self.servers.append(server)
        assert server.identity is not None
        # Saved at once: even if we are killed, `down` finds what we started.
        known = RunningServer(process=server.identity, port=self.ports[server.name])
        self._save(servers={**self.state.servers, server.name: known})

    def _save(self, **changes: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)
        self.state.save()


def _cluster(continent: str) -> str:
    return {each.value: cluster for each, cluster in CLUSTERS.items()}[continent]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _only_one(path: Path, name: str) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(name) from None
        yield
