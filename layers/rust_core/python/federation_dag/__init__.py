"""Canonical names, signatures, order, votes and places of transactions, a batch at a time.

Every function lets go of the GIL while it loops.

Examples
--------
>>> import federation_dag
>>> federation_dag.canonicalize(b'{"b": 1, "a": "x"}')
b'{"a":"x","b":1}'
>>> deps = federation_dag.resolve_object_deps([([], [b"o" * 32]), ([b"o" * 32], [])])
>>> list(deps)
[[0], [1]]
>>> deps.conflicts(1) == [(0, b"o" * 32)]
True
"""

from rust_core._native import federation_dag as _native

BallotOutcome = _native.BallotOutcome
CanonicalError = _native.CanonicalError
DoubleVote = _native.DoubleVote
Electorate = _native.Electorate
NamedTransaction = _native.NamedTransaction
NodeReport = _native.NodeReport
ObjectDeps = _native.ObjectDeps
Place = _native.Place
Tally = _native.Tally
VerifiedBatch = _native.VerifiedBatch
VerifiedHeader = _native.VerifiedHeader
account_id = _native.account_id
batch_verify = _native.batch_verify
canonicalize = _native.canonicalize
distance_m = _native.distance_m
dpos_parallel_collect = _native.dpos_parallel_collect
locate = _native.locate
name_transaction = _native.name_transaction
resolve_object_deps = _native.resolve_object_deps
verify_headers = _native.verify_headers
vote_message = _native.vote_message

__all__ = [
    "BallotOutcome",
    "CanonicalError",
    "DoubleVote",
    "Electorate",
    "NamedTransaction",
    "NodeReport",
    "ObjectDeps",
    "Place",
    "Tally",
    "VerifiedBatch",
    "VerifiedHeader",
    "account_id",
    "batch_verify",
    "canonicalize",
    "distance_m",
    "dpos_parallel_collect",
    "locate",
    "name_transaction",
    "resolve_object_deps",
    "verify_headers",
    "vote_message",
]
