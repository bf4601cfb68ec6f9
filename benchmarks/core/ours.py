"""The works of `rust_core` that are timed from Python, the binding's conversions included."""

import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from inputs import DELEGATES, EPOCH
from object_layers import layers_by_dict, object_sets
from signed import Signed, signed_of

import cert_rust
import federation_dag

Work = Callable[[], bool]

STAKE: Final = 1_000


def batch_verify(frames: Sequence[bytes]) -> Work:
    """Ed25519; what is bad is found out before by another library, and has to be answered so."""
    return _batch_verify("Ed25519", frames, [_holds(one) for one in signed_of(frames)])


def batch_verify_votes(frames: Sequence[bytes]) -> Work:
    """Ed25519, all good: so many are not checked twice."""
    return _batch_verify("Ed25519", frames, [True] * (len(frames) // 3))


def batch_verify_ml_dsa_65(frames: Sequence[bytes]) -> Work:
    """ML-DSA-65, all good."""
    return _batch_verify("ML-DSA-65", frames, [True] * (len(frames) // 3))


def dpos_parallel_collect(frames: Sequence[bytes]) -> Work:
    """The votes of all delegates, each with the same stake; every transaction is final."""
    names: dict[bytes, str] = {}
    votes = []
    for public_key, message, signature in signed_of(frames):
        name = names.setdefault(public_key, f"delegate-{len(names)}")
        transaction_id, sender, nonce = _VOTE_END.unpack(message[-_VOTE_END.size :])
        votes.append((name, transaction_id, sender, nonce, signature))
    delegates = [(name, "Ed25519", public_key, STAKE) for public_key, name in names.items()]

    def work() -> bool:
        tallies = federation_dag.dpos_parallel_collect(votes, delegates, EPOCH)
        return all(tally.final and tally.stake == STAKE * DELEGATES for tally in tallies)

    return work


def resolve_object_deps(frames: Sequence[bytes]) -> Work:
    """Layers of all transactions; checked once against the dict's."""
    items = object_sets(frames)
    wanted = layers_by_dict(items)
    if [list(layer) for layer in federation_dag.resolve_object_deps(items)] != wanted:
        raise AssertionError("rust_core and the dict layer the same batch differently")
    return lambda: len(federation_dag.resolve_object_deps(items)) == len(wanted)


def locate(frames: Sequence[bytes]) -> Work:
    """All positions in one call."""
    positions = [_POSITION.unpack(frame) for frame in frames]
    return lambda: len(federation_dag.locate(positions)) == len(positions)


def canonicalize(frames: Sequence[bytes]) -> Work:
    """A call for each document."""
    return lambda: all(federation_dag.canonicalize(document) for document in frames)


def seal(frames: Sequence[bytes]) -> Work:
    """`ContentSealer.seal` with a content key that is there already."""
    content, associated_data, public_key = frames
    sealer = cert_rust.ContentSealer(public_key, "bench")
    return lambda: len(sealer.seal(content, associated_data)) == 2


def check_cold(frames: Sequence[bytes]) -> Work:
    """Account certificates that the authority sees for the first time."""
    ca_der, crl_der, *certificates = frames
    now_s = int(time.time())

    def work() -> bool:
        check = cert_rust.Authority(ca_der, crl_der).check
        return all(check(der, now_s).account_id for der in certificates)

    return work


def check_warm(frames: Sequence[bytes]) -> Work:
    """Account certificates that the authority has checked before."""
    ca_der, crl_der, *certificates = frames
    now_s = int(time.time())
    check = cert_rust.Authority(ca_der, crl_der).check
    return lambda: all(check(der, now_s).account_id for der in certificates)


WORKS: Final[dict[str, Callable[[Sequence[bytes]], Work]]] = {
    work.__name__: work
    for work in (
        batch_verify,
        batch_verify_votes,
        batch_verify_ml_dsa_65,
        dpos_parallel_collect,
        resolve_object_deps,
        locate,
        canonicalize,
        seal,
        check_cold,
        check_warm,
    )
}

_POSITION: Final = struct.Struct("<qq")
#: What a vote's message ends with: transaction id, sender, nonce.
_VOTE_END: Final = struct.Struct(">32s32sQ")


def _batch_verify(algorithm: str, frames: Sequence[bytes], wanted: list[bool]) -> Work:
    items = [(algorithm, *one) for one in signed_of(frames)]
    return lambda: federation_dag.batch_verify(items) == wanted


def _holds(one: Signed) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(one.public_key).verify(one.signature, one.message)
    except InvalidSignature:
        return False
    return True
