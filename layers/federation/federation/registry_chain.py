"""Whether a registry follows from the one before: signed by 2/3 of its stake, evidence proved."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Final

import msgspec

import federation_dag
from federation.limits import REGISTRY_CHAIN_MAX
from federation.registry import Evidence, Registry, RegistryError, check_registry, decoded

#: A quorum is this part of all elected stake.
QUORUM: Final = (2, 3)


def verify_change(old: Registry, new: Registry) -> None:
    """Whether `new` may follow `old`.

    Signatures of delegates that `old` did not elect, and those that don't hold, count for nothing:
    others can't spoil a change that has its quorum.

    Raises
    ------
    RegistryError
        `wrong_epoch`, `wrong_previous`, `not_enough_stake` or `bad_evidence`, or what
        `check_registry` raises.
    """
    check_registry(new)
    if new.epoch != old.epoch + 1:
        raise RegistryError("wrong_epoch", f"epoch: {old.epoch} is followed by {old.epoch + 1}")
    if new.previous != old.digest:
        raise RegistryError("wrong_previous", f"previous: is the digest of epoch {old.epoch}")
    signed, total = signed_stake(old, new)
    of, all_of = QUORUM
    if all_of * signed < of * total:
        raise RegistryError(
            "not_enough_stake",
            f"signatures: at least {of}/{all_of} of {total} of epoch {old.epoch}, not {signed}",
        )
    for one in new.evidence:
        if one not in old.evidence:
            check_evidence(one, old)


def signed_stake(old: Registry, new: Registry) -> tuple[int, int]:
    """(stake of `old`'s delegates whose signature over `new` holds, all elected stake of `old`)."""
    keys = {name: (algorithm, key, stake) for name, algorithm, key, stake in old.voting_keys()}
    message = new.signing_bytes
    signers = {name: text for name, text in new.signatures if name in keys}
    held = federation_dag.batch_verify(
        [
            (keys[name][0], keys[name][1], message, decoded(f"signatures.{name}", text))
            for name, text in signers.items()
        ]
    )
    signed = sum(keys[name][2] for name, holds in zip(signers, held, strict=True) if holds)
    return signed, sum(stake for _, _, stake in keys.values())


def check_evidence(evidence: Evidence, registry: Registry) -> None:
    """Whether it proves a double vote of a delegate, by the key that `registry` has of it.

    Raises
    ------
    RegistryError
        `bad_evidence`.
    """
    where = f"evidence against {evidence.delegate_id}"
    if evidence.epoch > registry.epoch:
        raise RegistryError("bad_evidence", f"{where}: epoch {evidence.epoch} is in the future")
    known = [one for one in registry.candidates if one.delegate_id == evidence.delegate_id]
    if not known:
        raise RegistryError("bad_evidence", f"{where}: it was no candidate")
    one, other = evidence.transaction_ids
    if one == other:
        raise RegistryError("bad_evidence", f"{where}: two votes for one transaction are no fault")
    sender = bytes.fromhex(evidence.sender)
    key = decoded("public_key", known[0].public_key)
    held = federation_dag.batch_verify(
        [
            (
                known[0].algorithm,
                key,
                federation_dag.vote_message(
                    evidence.epoch, bytes.fromhex(transaction_id), sender, evidence.nonce
                ),
                decoded(f"{where}.signatures", signature),
            )
            for transaction_id, signature in zip(
                evidence.transaction_ids, evidence.signatures, strict=True
            )
        ]
    )
    if not all(held):
        raise RegistryError("bad_evidence", f"{where}: a signature doesn't hold")


def evidence_of(proof: federation_dag.DoubleVote, epoch: int) -> Evidence:
    """What the tally found, as a registry keeps it."""
    one, other = proof.transaction_ids
    signature, other_signature = proof.signatures
    return Evidence(
        delegate_id=proof.delegate_id,
        epoch=epoch,
        sender=proof.sender.hex(),
        nonce=proof.nonce,
        transaction_ids=(one.hex(), other.hex()),
        signatures=(b64encode(signature).decode(), b64encode(other_signature).decode()),
    )


def verify_chain(pin: str, registries: Sequence[Registry]) -> Registry:
    """The last of a chain that begins with the registry whose digest is `pin`.

    Parameters
    ----------
    pin : str
        Digest of a registry that is trusted as it is: the first one's, or a later one's.
    registries : sequence of Registry
        Oldest first. What lies before the pinned one is not looked at.

    Raises
    ------
    RegistryError
        `not_pinned` if the pinned one is not there, `too_large`, or what `verify_change` raises.
    """
    if len(registries) > REGISTRY_CHAIN_MAX:
        raise RegistryError("too_large", f"registries: at most {REGISTRY_CHAIN_MAX}")
    begins = next((n for n, one in enumerate(registries) if one.digest == pin), None)
    if begins is None:
        raise RegistryError("not_pinned", f"registries: none has the pinned digest {pin}")
    last = registries[begins]
    check_registry(last)
    for new in registries[begins + 1 :]:
        verify_change(last, new)
        last = new
    return last


def with_signature(registry: Registry, delegate_id: str, signature: bytes) -> Registry:
    """The registry with this delegate's signature, in the place of one that it had."""
    kept = [pair for pair in registry.signatures if pair[0] != delegate_id]
    pair = (delegate_id, b64encode(signature).decode())
    return msgspec.structs.replace(registry, signatures=sorted([*kept, pair]))
