"""What may run in parallel, and what the delegates' votes come to."""

import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from hypothesis import given
from hypothesis import strategies as st

import federation_dag

EPOCH = 3
object_ids = st.integers(0, 6).map(lambda number: bytes([number]) * 32)
id_lists = st.lists(object_ids, max_size=3)


@given(st.lists(st.tuples(id_lists, id_lists), max_size=40))
def test_a_layer_is_the_longest_chain_of_conflicts_before(
    items: list[tuple[list[bytes], list[bytes]]],
) -> None:
    layer_of: list[int] = []
    for at, (reads, writes) in enumerate(items):
        conflicting = [
            layer_of[before] + 1
            for before in range(at)
            if set(items[before][1]) & set(reads + writes) or set(items[before][0]) & set(writes)
        ]
        layer_of.append(max(conflicting, default=0))
    layers = federation_dag.resolve_object_deps(items)
    assert layers == [
        [at for at, of in enumerate(layer_of) if of == layer]
        for layer in range(max(layer_of, default=-1) + 1)
    ]


def test_readers_of_one_object_share_a_layer_and_writers_keep_their_order() -> None:
    one = b"o" * 32
    items: list[tuple[list[bytes], list[bytes]]] = [
        ([one], []),
        ([one], []),
        ([], [one]),
        ([], [one]),
        ([one], []),
    ]
    assert federation_dag.resolve_object_deps(items) == [[0, 1], [2], [3], [4]]


def test_an_object_id_of_another_length_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"items\[1\].writes\[0\] is 32 bytes, not 5"):
        federation_dag.resolve_object_deps([([], []), ([b"o" * 32], [b"short"])])


@given(st.lists(st.tuples(id_lists, id_lists), max_size=20))
def test_the_conflicts_of_a_transaction_put_it_into_its_layer(
    items: list[tuple[list[bytes], list[bytes]]],
) -> None:
    deps = federation_dag.resolve_object_deps(items)
    layer_of = {at: layer for layer, members in enumerate(deps) for at in members}
    for at, (reads, writes) in enumerate(items):
        edges = deps.conflicts(at)
        assert layer_of[at] == max((layer_of[before] + 1 for before, _ in edges), default=0)
        for before, object_id in edges:
            assert object_id in reads + writes
            assert object_id in items[before][0] + items[before][1]
            assert object_id in writes + items[before][1]
    with pytest.raises(IndexError):
        deps.conflicts(len(items))


def test_layers_are_a_sequence() -> None:
    deps = federation_dag.resolve_object_deps([([], [b"o" * 32])] * 3)
    assert (len(deps), deps[0], deps[-1], list(deps)) == (3, [0], [2], [[0], [1], [2]])
    assert deps == federation_dag.resolve_object_deps([([], [b"p" * 32])] * 3)
    assert deps != [[0, 1, 2]]
    with pytest.raises(IndexError):
        deps[3]


Key = ed25519.Ed25519PrivateKey | mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey
KEYS: dict[str, tuple[str, Key, int]] = {
    "tokyo": ("Ed25519", ed25519.Ed25519PrivateKey.generate(), 40),
    "lagos": ("ML-DSA-65", mldsa.MLDSA65PrivateKey.generate(), 26),
    "lima": ("ML-DSA-44", mldsa.MLDSA44PrivateKey.generate(), 33),
}
DELEGATES = [
    (name, algorithm, key.public_key().public_bytes_raw(), stake)
    for name, (algorithm, key, stake) in KEYS.items()
]


def vote(
    name: str, transaction_id: bytes, *, epoch: int = EPOCH, nonce: int = 7
) -> tuple[str, bytes, bytes, int, bytes]:
    message = federation_dag.vote_message(epoch, transaction_id, b"s" * 32, nonce)
    return name, transaction_id, b"s" * 32, nonce, KEYS[name][1].sign(message)


def test_a_vote_message_is_domain_epoch_id_sender_and_nonce() -> None:
    message = federation_dag.vote_message(EPOCH, b"t" * 32, b"s" * 32, 7)
    assert message == b"love-vote-v1\0" + struct.pack(">Q32s32sQ", EPOCH, b"t" * 32, b"s" * 32, 7)


def test_votes_of_two_thirds_of_the_stake_make_a_transaction_final() -> None:
    # 66 of 99 is two thirds exactly; 59 is less.
    exact, less = b"t" * 32, b"u" * 32
    votes = [vote("tokyo", exact), vote("lagos", exact)]
    votes += [vote("lima", less, nonce=8), vote("lagos", less, nonce=8)]
    tallies = federation_dag.dpos_parallel_collect(votes, DELEGATES, EPOCH)
    assert [(tally.transaction_id, tally.final, tally.stake) for tally in tallies] == [
        (exact, True, 66),
        (less, False, 59),
    ]
    assert tallies[0].voters == ["tokyo", "lagos"]
    assert tallies[0].refused == []


def test_a_double_a_forged_an_old_and_a_strangers_vote_add_nothing() -> None:
    one = b"t" * 32
    good = vote("tokyo", one)
    forged = ("lima", *vote("tokyo", one)[1:])
    stranger = ("atlantis", *good[1:])
    votes = [good, good, forged, vote("lagos", one, epoch=EPOCH - 1), stranger]
    (tally,) = federation_dag.dpos_parallel_collect(votes, DELEGATES, EPOCH)
    assert (tally.stake, tally.voters, tally.final) == (40, ["tokyo"], False)
    assert tally.refused == ["lima", "lagos", "atlantis"]


def test_a_double_vote_comes_back_as_proof_and_counts_for_neither() -> None:
    one, other = b"t" * 32, b"u" * 32
    votes = [vote("tokyo", one), vote("lima", one), vote("lima", other), vote("lagos", other)]
    tallies = federation_dag.dpos_parallel_collect(votes, DELEGATES, EPOCH)
    assert [(tally.stake, tally.final, tally.refused) for tally in tallies] == [
        (40, False, ["lima"]),
        (26, False, ["lima"]),
    ]
    for tally in tallies:
        (proof,) = tally.double_votes
        assert (proof.delegate_id, proof.sender, proof.nonce) == ("lima", b"s" * 32, 7)
        assert proof.transaction_ids == (one, other)
        assert proof.signatures == (votes[1][4], votes[2][4])


def test_stakes_near_the_largest_integer_do_not_overflow() -> None:
    stake = 2**64 - 1
    delegates = [(name, algorithm, key, stake) for name, algorithm, key, _ in DELEGATES]
    votes = [vote("tokyo", b"t" * 32), vote("lima", b"t" * 32)]
    (tally,) = federation_dag.dpos_parallel_collect(votes, delegates, EPOCH)
    assert (tally.stake, tally.final) == (2 * stake, True)


def test_nothing_is_final_without_delegates() -> None:
    (tally,) = federation_dag.dpos_parallel_collect([vote("tokyo", b"t" * 32)], [], EPOCH)
    assert (tally.final, tally.stake, tally.refused) == (False, 0, ["tokyo"])
