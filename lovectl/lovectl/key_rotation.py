"""Rotates the keys of a deployed stack: customer keys in KMS, data keys in each cluster's vault."""

import getpass
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pymongo
from botocore.exceptions import BotoCoreError, ClientError
from pymongo.errors import PyMongoError

from federation.audit import record_key_use
from federation.audit_spool import AuditSpool
from federation.errors import FederationError
from federation.regions import CONTINENTS, Continent
from federation.routing import start_router
from federation.telemetry import stage_logger
from lovectl.access import Access
from lovectl.checker import STORE_TIMEOUT_MS
from lovectl.customer_keys import CUSTOMER_KEYS_OUTPUT, CustomerKeyRing
from lovectl.errors import StackError
from lovectl.paths import load_functions, write_private
from lovectl.servers import session_arguments

load_functions()

from persist.field_encryption import aws_credentials  # noqa: E402
from persist.key_rotation import KeyVault, RotationFailed  # noqa: E402


class Mode(StrEnum):
    """Which KMS key wraps the data keys after the rotation."""

    SAME_KEY = "same-key"
    NEW_KEY = "new-key"
    TO_KEY = "to-key"


class KeysNotRotated(StackError):
    """A rotation stopped; the message says where, and how to go on."""


@dataclass(frozen=True)
class KeyStack:
    """What a rotation has to reach.

    Attributes
    ----------
    aws : callable
        `aws("kms")` gives a boto3 client.
    outputs : mapping
        The outputs of `template.yaml`.
    mongo_uris : mapping of continent to URI
    mongo_options : mapping
        Of PyMongo, such as TLS files.
    credentials : dict
        Of AWS, as libmongocrypt wants them.
    kms_ca_file : str
        The CA of the KMS, if it is another one than AWS'.
    """

    aws: Callable[..., Any]
    outputs: Mapping[str, str]
    mongo_uris: Mapping[str, str]
    mongo_options: Mapping[str, Any]
    credentials: dict[str, str]
    kms_ca_file: str = ""


def local_key_stack(access: Access) -> KeyStack:
    """The running local stack."""
    arguments = session_arguments()
    return KeyStack(
        aws=access.aws,
        outputs=access.outputs,
        mongo_uris=access.stores.mongo_uris,
        mongo_options={},
        credentials={
            "accessKeyId": arguments["aws_access_key_id"],
            "secretAccessKey": arguments["aws_secret_access_key"],
        },
        kms_ca_file=str(access.ca_file),
    )


@contextmanager
def deployed_key_stack(stack_name: str) -> Iterator[KeyStack]:
    """A stack in AWS, reached as the environment says: AWS' settings and `MONGO_URI_PROVIDER`'s.

    Raises
    ------
    KeysNotRotated
        There is no such stack, it is another template's, or the clusters' URIs can't be had.
    """
    import boto3

    aws: Any = boto3.client
    try:
        found = aws("cloudformation").describe_stacks(StackName=stack_name)["Stacks"][0]
    except (BotoCoreError, ClientError) as error:
        raise KeysNotRotated(f"stack {stack_name!r} can't be described: {error}") from error
    outputs = {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", ())}
    if CUSTOMER_KEYS_OUTPUT not in outputs:
        raise KeysNotRotated(f"stack {stack_name!r} has no output {CUSTOMER_KEYS_OUTPUT}")
    try:
        router = start_router()
        routes = {one.value: router.route(one.value) for one in CONTINENTS}
    except FederationError as error:
        raise KeysNotRotated(f"the clusters' URIs can't be had: {error.detail}") from error
    with tempfile.TemporaryDirectory(prefix="lovectl-") as directory:
        options: dict[str, str] = {}
        first = routes[CONTINENTS[0].value]
        for option, pem in (
            ("tlsCAFile", first.ca_pem),
            ("tlsCertificateKeyFile", first.client_pem),
        ):
            if pem:
                options[option] = str(write_private(Path(directory) / f"{option}.pem", pem))
        yield KeyStack(
            aws=aws,
            outputs=outputs,
            mongo_uris={continent: route.uri for continent, route in routes.items()},
            mongo_options=options,
            credentials=aws_credentials(),
        )


def rotate_keys(
    stack: KeyStack,
    *,
    continents: Sequence[Continent] = CONTINENTS,
    mode: Mode = Mode.SAME_KEY,
    to_key: str = "",
    new_data_key: bool = False,
) -> list[dict[str, Any]]:
    """Wrap every data key of these continents anew; gives a row for each continent.

    A continent's data keys lie in its own cluster's vault, and in those that hold records of it as
    a guest (`ALLOW_CROSS_REGION`). First the data keys are wrapped, which proves the customer key;
    only then the functions are told to encrypt with it.

    Parameters
    ----------
    to_key : str
        ARN of an existing customer key, for `Mode.TO_KEY`; its policy must let the functions use it
        as template.yaml's policies do.
    new_data_key : bool
        Encrypt new documents with a new data key too.

    Raises
    ------
    KeysNotRotated
        A cluster or KMS can't be reached, or refuses. Whatever was done so far holds: every data
        key is under a customer key that goes on working.
    """
    ring = CustomerKeyRing(stack.aws, stack.outputs)
    spool = AuditSpool(stack.aws("sqs"), stack.outputs["AuditSpoolUrl"], stage_logger("audit"))
    with ExitStack() as opened:
        vaults = {one: opened.enter_context(_vault(stack, one)) for one in CONTINENTS}
        return [
            _rotate(ring, vaults, spool, continent, mode, to_key, new_data_key)
            for continent in continents
        ]


def _rotate(
    ring: CustomerKeyRing,
    vaults: Mapping[Continent, KeyVault],
    spool: AuditSpool,
    continent: Continent,
    mode: Mode,
    to_key: str,
    new_data_key: bool,
) -> dict[str, Any]:
    arn = to_key
    data_key: str | None = None
    try:
        # Before a key is made: an unreachable cluster must not leave one behind.
        for vault in vaults.values():
            vault.data_keys(continent.value)
        replaced = ring.of(continent)[0]
        if mode is Mode.SAME_KEY:
            arn = replaced
        elif mode is Mode.NEW_KEY:
            arn = ring.create(continent)
        # Before it is used: what stops midway is in the audit too.
        record_key_use(
            source="lovectl",
            key=arn,
            purpose=f"rewrap data keys of {continent.value}, until now under {replaced}",
            subject=getpass.getuser(),
            spool=spool,
        )
        rewrapped = sum(vault.rewrap(continent.value, arn) for vault in vaults.values())
        if new_data_key:
            for cluster, vault in vaults.items():
                started = vault.start_data_key(continent.value, arn)
                if cluster == continent and started is not None:
                    data_key = started.hex()
        ring.put_first(continent, arn)
    except (PyMongoError, BotoCoreError, ClientError, RotationFailed) as error:
        again = f"lovectl keys rotate --continent {continent.value}"
        if arn:
            again += f" --to-key {arn}"
        raise KeysNotRotated(f"{continent.value}: {error}\nto go on: {again}") from error
    return {
        "continent": continent.value,
        "customer_key": arn,
        "replaced_key": replaced,
        "data_keys_rewrapped": rewrapped,
        "data_key": data_key,
    }


@contextmanager
def _vault(stack: KeyStack, continent: Continent) -> Iterator[KeyVault]:
    with (
        pymongo.MongoClient[dict[str, Any]](
            stack.mongo_uris[continent.value], timeoutMS=STORE_TIMEOUT_MS, **stack.mongo_options
        ) as client,
        KeyVault(client, stack.credentials, stack.kms_ca_file) as vault,
    ):
        yield vault
