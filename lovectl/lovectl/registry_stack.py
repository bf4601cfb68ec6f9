"""The delegate registry of a running stack: read it, gather evidence for it, put a change into force."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec

from federation.limits import SECRET_BYTES_MAX
from federation.registry import Evidence, Registry, RegistryError, parse_registries
from federation.registry_chain import check_evidence, verify_chain, verify_change, with_signature
from federation.registry_source import CHAIN_MEMBER, write_parameters
from love_node.v1 import node_pb2, node_pb2_grpc
from lovectl.delegates import CONFIG_FILE, NODES_DIRECTORY, give_registry
from lovectl.errors import StackError
from lovectl.paths import write_private
from lovectl.processes import LOOPBACK, stop
from lovectl.servers import NodeServer
from lovectl.stack import Stack
from lovectl.state import RunningServer
from lovectl.trust import DELEGATES_SECRET, delegates_secret

#: Below it everybody may read the registries: SSM parameters, one tree for each stack.
PARAMETERS: Final = "/love/registry"
EVIDENCE_TIMEOUT_S: Final = 5.0


class Gathered(msgspec.Struct, frozen=True):
    """Proved double votes, and the nodes that could not be asked, with why."""

    evidence: list[Evidence]
    silent: dict[str, str]


def read_chain(stack: Stack) -> list[Registry]:
    """The chain in the secret, oldest first, as it is there: not yet verified.

    Raises
    ------
    RegistryError
    """
    chain = _secret(stack).get(CHAIN_MEMBER)
    return parse_registries(msgspec.json.encode(chain))


def current(stack: Stack) -> Registry:
    """The registry in force, verified from the stack's pin.

    Raises
    ------
    RegistryError
    """
    return verify_chain(stack.state.registry_pin, read_chain(stack))


def gather_evidence(stack: Stack, registry: Registry) -> Gathered:
    """What the full nodes know of double votes in the registry's epoch, each proof verified.

    A proof that is none doesn't count, whoever tells it; the node that did is in `silent`.
    """
    secret = _secret(stack)
    credentials = grpc.ssl_channel_credentials(
        secret["ca_pem"].encode(),
        secret["client_key_pem"].encode(),
        secret["client_cert_pem"].encode(),
    )
    proofs: dict[str, Evidence] = {}
    silent: dict[str, str] = {}
    for one in registry.elected():
        if one.level == "city":
            continue
        request = node_pb2.EvidenceRequest(epoch=registry.epoch)
        try:
            with grpc.secure_channel(one.address, credentials) as channel:
                stub = node_pb2_grpc.DelegateServiceStub(channel)  # type: ignore[no-untyped-call]
                answer = stub.Evidence(request, timeout=EVIDENCE_TIMEOUT_S)
            for proof in answer.double_votes:
                evidence = _evidence(proof)
                check_evidence(evidence, registry)
                proofs.setdefault(evidence.delegate_id, evidence)
        except grpc.RpcError as error:
            silent[one.delegate_id] = error.code().name
        except RegistryError as error:
            silent[one.delegate_id] = error.detail
    return Gathered([proofs[name] for name in sorted(proofs)], silent)


def apply(stack: Stack, proposal: Registry) -> None:
    """Put a signed change into force: the secret, then the nodes, then the public parameters.

    Applied again, it goes on where it was interrupted. What was final stays so: no record is
    touched, and the nodes keep their vote locks.

    Raises
    ------
    RegistryError
        It is not what 2/3 of the stake in force have signed; nothing is changed then.
    StackError
        The chain has outgrown a secret.
    """
    chain = read_chain(stack)
    last = verify_chain(stack.state.registry_pin, chain)
    if proposal.digest != last.digest:
        verify_change(last, proposal)
        chain = [*chain, proposal]
        text = json.dumps(delegates_secret(chain, stack.pki))
        if len(text.encode()) > SECRET_BYTES_MAX:
            raise StackError(
                f"the chain of {len(chain)} registries has outgrown the secret's "
                f"{SECRET_BYTES_MAX} bytes: deploy with RegistryPin={last.digest}, and let the "
                "chain begin there"
            )
        stack.client("secretsmanager").put_secret_value(
            SecretId=DELEGATES_SECRET, SecretString=text
        )
    _restart_nodes(stack, chain)
    for registry in chain:
        write_parameters(stack.client("ssm"), f"{PARAMETERS}/{stack.state.name}", registry)


def _restart_nodes(stack: Stack, chain: Sequence[Registry]) -> None:
    registry = chain[-1]
    rows = {one["delegate_id"]: one for one in registry.delegates()}
    # Nodes reach each other directly, functions through the proxies.
    ports = {name: server.port for name, server in stack.state.servers.items()}
    everyone = [
        {**one, "address": f"{LOOPBACK}:{ports[name]}" if name in ports else one["address"]}
        for name, one in rows.items()
    ]
    started = []
    for file in sorted((stack.directory / NODES_DIRECTORY).glob(f"*/{CONFIG_FILE}")):
        config: dict[str, Any] = json.loads(file.read_text())
        name = config["delegate_id"]
        mine = {key: rows[name][key] for key in ("level", "stake")} if name in rows else {}
        write_private(
            file,
            json.dumps(
                {**config, **mine, "epoch": registry.epoch, "delegates_public": everyone}, indent=2
            ),
        )
        give_registry(file.parent, chain)
        stop(stack.state.servers[name].process)
        node = NodeServer(name, file, ports[name], stack.directory / "logs" / f"{name}.log")
        node.launch()
        started.append(node)
        assert node.identity is not None
        servers = {**stack.state.servers, name: RunningServer(node.identity, ports[name])}
        # Saved at once: even if we are killed, `down` finds what we started.
        stack.state = msgspec.structs.replace(stack.state, servers=servers)
        stack.state.save()
    for node in started:
        node.wait_ready()


def _secret(stack: Stack) -> Mapping[str, Any]:
    text = stack.client("secretsmanager").get_secret_value(SecretId=DELEGATES_SECRET)
    secret: Mapping[str, Any] = json.loads(text["SecretString"])
    return secret


def _evidence(proof: node_pb2.DoubleVote) -> Evidence:
    fields = {
        "delegate_id": proof.delegate_id,
        "epoch": proof.epoch,
        "sender": proof.sender.hex(),
        "nonce": proof.nonce,
        "transaction_ids": [one.hex() for one in proof.transaction_ids],
        "signatures": [b64encode(one).decode() for one in proof.signatures],
    }
    try:
        return msgspec.convert(fields, Evidence)
    except msgspec.ValidationError as error:
        raise RegistryError("bad_evidence", f"evidence: {error}") from None


def sign(registry: Registry, keys: Sequence[tuple[str, Any]]) -> Registry:
    """The registry with a signature of each (delegate id, private key)."""
    for name, key in keys:
        registry = with_signature(registry, name, key.sign(registry.signing_bytes))
    return registry


def load_signing_key(path: Path) -> Any:
    """A delegate's private key, PEM.

    Raises
    ------
    StackError
        The file can't be read, or is no Ed25519 or ML-DSA-65 key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StackError(f"{path}: {error}") from None
    if not isinstance(key, Ed25519PrivateKey | MLDSA65PrivateKey):
        raise StackError(f"{path}: is no Ed25519 or ML-DSA-65 key")
    return key
