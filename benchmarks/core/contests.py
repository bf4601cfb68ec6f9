"""What is compared with what: in each contest `ours` comes first, all work on the same input."""

from dataclasses import dataclass
from typing import Final

from inputs import (
    BAD_PLACEMENTS,
    BATCH,
    CERTIFICATE_SIGNATURES,
    CERTIFICATES,
    CHAIN,
    CONTENT,
    DELEGATES,
    DISTINCT,
    DOCUMENTS,
    ML_DSA_65,
    ML_DSA_BATCH,
    NEAR_CITIES,
    OBJECT_SETS,
    OBJECT_TRANSACTIONS,
    ON_THE_SPHERE,
    POSITIONS,
    REPEATED,
    VOTED_TRANSACTIONS,
    VOTES,
    bad_input,
)
from rounds import Entry

#: Processes: Python on one thread and on all cores, Rust on one thread.
PYTHON: Final = "python"
PYTHON_ALL_CORES: Final = "python, all cores"
RUST: Final = "rust"

OURS: Final = "rust_core, from Python"
OURS_IN_RUST: Final = "rust_core, inside Rust"
OURS_ALL_CORES: Final = "rust_core, from Python, all cores"


@dataclass(frozen=True)
class Contest:
    """Works on one input, or on inputs alike."""

    title: str
    item: str
    entries: tuple[Entry, ...]


ED25519: Final = "Ed25519, a batch of 1,024, each its own signer"
ED25519_FEW: Final = "Ed25519, a batch of 1,024 of 32 signers"
ED25519_BAD: Final = "Ed25519, a batch of 1,024, 10 of them bad"
ML_DSA: Final = "ML-DSA-65, a batch of 128"
OBJECTS: Final = "Layers of 100,000 transactions by object ids"
VOTING: Final = "100,000 votes of 100 delegates"
PLACES: Final = "Place of a position, a batch of 10,000"
CANONICAL: Final = "Canonical JSON of a transaction"
SEALING: Final = "Sealing of 1 KB"
AUTHORITY: Final = "Check of an account certificate"

COLLECT: Final = "dpos_parallel_collect"
COLLECT_ALL_CORES: Final = "dpos_parallel_collect, all cores"
SIGNATURES: Final = "batch_verify of the same votes"
SIGNATURES_ALL_CORES: Final = "batch_verify of the same votes, all cores"
ZEBRA: Final = "ed25519-zebra, one batch"
AWS_LC: Final = "aws-lc-rs"
CRYPTOGRAPHY: Final = "Python cryptography"
DICT: Final = "Python dict"
SERDE_JCS: Final = "serde_jcs"
CLEAN: Final = "rust_core, the same batch without bad ones"
NEAR: Final = "rust_core, from Python, near cities"
SPHERE: Final = "rust_core, from Python, anywhere on the globe"
NEAR_ALL_CORES: Final = "rust_core, from Python, near cities, all cores"
SPHERE_ALL_CORES: Final = "rust_core, from Python, anywhere on the globe, all cores"
COLD: Final = "rust_core, from Python, seen for the first time"
WARM: Final = "rust_core, from Python, seen before"
RAW_SIGNATURE: Final = "aws-lc-rs, the ML-DSA-65 signature alone"


def bad_at(placement: int) -> str:
    """The name of the entry whose bad signatures lie at that placement."""
    return f"rust_core, placement {placement}"


def _contest(title: str, item: str, *entries: Entry) -> Contest:
    return Contest(title, item, entries)


def _ed25519(title: str, input_name: str, *more: Entry) -> Contest:
    return _contest(
        title,
        "signature",
        Entry(OURS, PYTHON, "batch_verify", input_name, BATCH),
        Entry(ZEBRA, RUST, "zebra_batch", input_name, BATCH),
        Entry("ed25519-dalek, one batch", RUST, "dalek_batch", input_name, BATCH),
        Entry(
            "ed25519-dalek, one batch, keys decoded before",
            RUST,
            "dalek_batch_keys_kept",
            input_name,
            BATCH,
        ),
        Entry(OURS_ALL_CORES, PYTHON_ALL_CORES, "batch_verify", input_name, BATCH),
        *more,
    )


_VOTE_COUNT: Final = DELEGATES * VOTED_TRANSACTIONS

CONTESTS: Final = (
    _ed25519(
        ED25519,
        DISTINCT,
        Entry("ed25519-zebra, one by one", RUST, "zebra_single", DISTINCT, BATCH),
        Entry("aws-lc-rs, one by one", RUST, "aws_lc_ed25519", DISTINCT, BATCH),
        Entry("PyNaCl", PYTHON, "pynacl", DISTINCT, BATCH),
        Entry(CRYPTOGRAPHY, PYTHON, "cryptography_ed25519", DISTINCT, BATCH),
    ),
    _ed25519(ED25519_FEW, REPEATED),
    _contest(
        ED25519_BAD,
        "signature",
        Entry(CLEAN, PYTHON, "batch_verify", DISTINCT, BATCH),
        *(
            Entry(bad_at(placement), PYTHON, "batch_verify", bad_input(placement), BATCH)
            for placement in range(BAD_PLACEMENTS)
        ),
    ),
    _contest(
        ML_DSA,
        "signature",
        Entry(OURS, PYTHON, "batch_verify_ml_dsa_65", ML_DSA_65, ML_DSA_BATCH),
        Entry(AWS_LC, RUST, "aws_lc_ml_dsa_65", ML_DSA_65, ML_DSA_BATCH),
        Entry(CRYPTOGRAPHY, PYTHON, "cryptography_ml_dsa_65", ML_DSA_65, ML_DSA_BATCH),
        Entry(OURS_ALL_CORES, PYTHON_ALL_CORES, "batch_verify_ml_dsa_65", ML_DSA_65, ML_DSA_BATCH),
    ),
    _contest(
        OBJECTS,
        "transaction",
        Entry(OURS, PYTHON, "resolve_object_deps", OBJECT_SETS, OBJECT_TRANSACTIONS),
        Entry(OURS_IN_RUST, RUST, "resolve", OBJECT_SETS, OBJECT_TRANSACTIONS),
        Entry(DICT, PYTHON, "objects_by_dict", OBJECT_SETS, OBJECT_TRANSACTIONS),
        Entry("networkx", PYTHON, "objects_by_networkx", OBJECT_SETS, OBJECT_TRANSACTIONS),
        Entry("graphlib", PYTHON, "objects_by_graphlib", OBJECT_SETS, OBJECT_TRANSACTIONS),
    ),
    _contest(
        VOTING,
        "vote",
        Entry(COLLECT, PYTHON, "dpos_parallel_collect", VOTES, _VOTE_COUNT),
        Entry(SIGNATURES, PYTHON, "batch_verify_votes", VOTES, _VOTE_COUNT),
        Entry(ZEBRA, RUST, "zebra_batch", VOTES, _VOTE_COUNT),
        Entry("ed25519-zebra, batches of 1,024", RUST, "zebra_batches_of_1024", VOTES, _VOTE_COUNT),
        Entry(COLLECT_ALL_CORES, PYTHON_ALL_CORES, "dpos_parallel_collect", VOTES, _VOTE_COUNT),
        Entry(SIGNATURES_ALL_CORES, PYTHON_ALL_CORES, "batch_verify_votes", VOTES, _VOTE_COUNT),
    ),
    _contest(
        PLACES,
        "position",
        Entry(NEAR, PYTHON, "locate", NEAR_CITIES, POSITIONS),
        Entry(SPHERE, PYTHON, "locate", ON_THE_SPHERE, POSITIONS),
        Entry(NEAR_ALL_CORES, PYTHON_ALL_CORES, "locate", NEAR_CITIES, POSITIONS),
        Entry(SPHERE_ALL_CORES, PYTHON_ALL_CORES, "locate", ON_THE_SPHERE, POSITIONS),
    ),
    _contest(
        CANONICAL,
        "document",
        Entry(OURS, PYTHON, "canonicalize", DOCUMENTS, BATCH),
        Entry(OURS_IN_RUST, RUST, "canonicalize", DOCUMENTS, BATCH),
        Entry(SERDE_JCS, RUST, "serde_jcs", DOCUMENTS, BATCH),
        Entry("serde_json, sorted", RUST, "serde_json_sorted", DOCUMENTS, BATCH),
        Entry("PyPI rfc8785", PYTHON, "rfc8785_pypi", DOCUMENTS, BATCH),
        Entry("Python json, sorted", PYTHON, "json_sorted", DOCUMENTS, BATCH),
    ),
    _contest(
        SEALING,
        "content",
        Entry(OURS, PYTHON, "seal", CONTENT, 1),
        Entry("aws-lc-rs AES-256-GCM", RUST, "aws_lc_aes_256_gcm", CONTENT, 1),
        Entry("Python cryptography AES-256-GCM", PYTHON, "cryptography_aes_256_gcm", CONTENT, 1),
        Entry("PyMongo CSFLE, local key", PYTHON, "csfle", CONTENT, 1),
        Entry(
            "AWS Encryption SDK, raw AES, unsigned", PYTHON, "encryption_sdk_unsigned", CONTENT, 1
        ),
        Entry("AWS Encryption SDK, raw AES, default", PYTHON, "encryption_sdk_default", CONTENT, 1),
    ),
    _contest(
        AUTHORITY,
        "certificate",
        Entry(COLD, PYTHON, "check_cold", CHAIN, CERTIFICATES),
        Entry(RAW_SIGNATURE, RUST, "aws_lc_ml_dsa_65", CERTIFICATE_SIGNATURES, CERTIFICATES),
        Entry(
            "aws-lc-rs, the signature alone, key decoded before",
            RUST,
            "aws_lc_ml_dsa_65_key_kept",
            CERTIFICATE_SIGNATURES,
            CERTIFICATES,
        ),
        Entry(WARM, PYTHON, "check_warm", CHAIN, CERTIFICATES),
    ),
)
