"""What a client of a running stack needs: where its API, stores, proxies and keys are."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.regions import CONTINENTS
from lovectl import stack as stacks
from lovectl.accounts import Issuer
from lovectl.checker import ImmudbAccess, Stores
from lovectl.client import Client
from lovectl.delegates import NODES_DIRECTORY
from lovectl.faults import Proxies
from lovectl.paths import REPOSITORY
from lovectl.queries import Node, load_nodes
from lovectl.servers import ImmuDbServer


@dataclass(frozen=True)
class Access:
    """A running stack, from outside.

    Attributes
    ----------
    aws : callable
        `aws("logs")` is a boto3 client of the local AWS, round the proxies, with all rights.
    endpoint_url : str
        Where the local AWS is, round the proxies.
    outputs : mapping
        The outputs of `template.yaml`.
    directory : pathlib.Path
        Holds the servers' data and logs.
    revoke : callable
        `revoke(*serials)` publishes a list of exactly these account certificates.
    publish_token_keys : callable
        `publish_token_keys(jwk_set)` has the token issuer serve exactly these keys.
    nodes : mapping of delegate id to Node
    """

    api_url: str
    ca_file: Path
    issuer: Issuer
    stores: Stores
    proxies: Proxies
    aws: Callable[..., Any]
    endpoint_url: str
    outputs: Mapping[str, str]
    directory: Path
    revoke: Callable[..., None]
    publish_token_keys: Callable[[dict[str, Any]], None]
    nodes: Mapping[str, Node]

    def client(self) -> Client:
        """A client of the API; use it as a context manager."""
        return Client(self.api_url, self.ca_file)


def running_access(name: str = stacks.DEFAULT_NAME) -> Access | None:
    """The stack of this name, if it runs."""
    found = stacks.find(name)
    return None if found is None else access_to(found)


@contextmanager
def started_access(
    name: str, source: Path = REPOSITORY, environment: Mapping[str, str] | None = None
) -> Iterator[Access]:
    """A stack of its own for as long as the block lasts; see `lovectl.stack.running`."""
    with stacks.running(name, source=source, environment=environment) as stack:
        yield access_to(stack)


@contextmanager
def access_or_start(name: str) -> Iterator[Access]:
    """The usual stack if it runs, or one called `name` for as long as the block lasts."""
    access = running_access()
    if access is not None:
        yield access
        return
    with started_access(name) as own:
        yield own


def access_to(stack: stacks.Stack) -> Access:
    """What a client needs of `stack`."""
    trust, state = stack.trust, stack.state
    return Access(
        api_url=stack.api_url,
        ca_file=stack.pki.ca_file,
        issuer=Issuer(
            ca=trust.ca,
            token_key=trust.token_key,
            token_key_id=state.token_key_id,
            token_issuer=state.token_issuer,
            token_audience=state.token_audience,
        ),
        stores=Stores(
            mongo_uris={one.value: stack.mongo_uri(one.value) for one in CONTINENTS},
            dynamodb=stack.client("dynamodb"),
            table=stack.outputs["TransactionsTableName"],
            immudb=ImmudbAccess(
                address=f"127.0.0.1:{stack.port_of(stacks.FRONTS['immudb'])}",
                username=ImmuDbServer.username,
                password=state.immudb_password,
                database=ImmuDbServer.database,
                server_ca_pem=stack.pki.ca_file.read_text(),
                client_pem=stack.pki.client_pem_file.read_text(),
            ),
        ),
        proxies=stack.proxies,
        aws=stack.client,
        endpoint_url=stack.state.endpoint_url,
        outputs=stack.outputs,
        directory=stack.directory,
        revoke=stack.revoke,
        publish_token_keys=stack.publish_token_keys,
        nodes=load_nodes(stack.directory / NODES_DIRECTORY),
    )
