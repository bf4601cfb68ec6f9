from collections.abc import Iterator
from typing import ClassVar, final

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

class CanonicalError(ValueError):
    """A document is not strict I-JSON (RFC 7493) of integers.

    Attributes
    ----------
    path : str
        JSON pointer (RFC 6901) of the offending value.
    rule : str
        What must hold.
    """

    path: str
    rule: str

def canonicalize(document: bytes) -> bytes:
    """Canonical JSON (JCS, RFC 8785); floats, duplicate names and integers beyond 2^53-1 are refused.

    Raises
    ------
    CanonicalError
    """

@final
class NamedTransaction:
    """A transaction's names, all out of one parse."""

    @property
    def canonical(self) -> bytes:
        """The whole document."""
    @property
    def transaction_id(self) -> bytes:
        """SHA-256 (32 bytes) over the canonical form of everything but the top-level `signature`."""
    @property
    def signing_bytes(self) -> bytes:
        """What the sender signs: canonical, without `content` and `signature`, with `transaction_id`."""
    @property
    def content(self) -> bytes | None:
        """The canonical form of `content`."""

def name_transaction(document: bytes) -> NamedTransaction:
    """Name a transaction.

    Raises
    ------
    CanonicalError
        It is not strict I-JSON, or not an object.
    """

def account_id(algorithm: str, public_key: bytes) -> bytes:
    """SHA-256 (32 bytes) of the key's SubjectPublicKeyInfo (DER).

    Raises
    ------
    ValueError
        For an unknown algorithm or a key of a wrong length.
    """

def batch_verify(items: list[tuple[str, bytes, bytes, bytes]]) -> list[bool]:
    """Whether each signature verifies; never raises for a bad one.

    Parameters
    ----------
    items : list of (algorithm, public_key, message, signature)
        Algorithms Ed25519 (RFC 8032, ZIP-215), ML-DSA-44 and ML-DSA-65 (FIPS 204, pure, empty
        context), mixed as they come; any other name does not verify.
    """

@final
class VerifiedHeader:
    """A well-formed header, signed by the key whose account is its sender."""

    @property
    def transaction_id(self) -> bytes: ...
    @property
    def sender(self) -> bytes: ...
    @property
    def nonce(self) -> int: ...
    @property
    def signing_bytes(self) -> bytes:
        """The header's canonical JSON."""

@final
class VerifiedBatch:
    """What was found out about each header; comes only out of `verify_headers`.

    A sequence of `VerifiedHeader`, `None` where a header was refused.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> VerifiedHeader | None: ...
    def __iter__(self) -> Iterator[VerifiedHeader | None]: ...
    @property
    def reasons(self) -> list[str | None]:
        """`malformed`, `bad_signature`, `not_the_sender`, or `None` for a verified header."""
    @property
    def deps(self) -> ObjectDeps:
        """The layers; what was refused reads and writes nothing."""
    def places(self) -> list[Place | None]:
        """Proof of Place of the verified headers whose position is on the globe."""

def verify_headers(headers: list[tuple[str, bytes, bytes, bytes]]) -> VerifiedBatch:
    """Parse, verify and order signed headers in one pass; never raises for a bad one.

    Parameters
    ----------
    headers : list of (algorithm, public_key, header, signature)
        `header` is JSON; the signature is over its canonical form.
    """

@final
class ObjectDeps:
    """Layers of a batch: a sequence of lists of indices, equal to such a list of lists."""

    __hash__: ClassVar[None]  # type: ignore[assignment]
    def __len__(self) -> int: ...
    def __getitem__(self, layer: int, /) -> list[int]: ...
    def __iter__(self) -> Iterator[list[int]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def conflicts(self, index: int) -> list[tuple[int, bytes]]:
        """Why a transaction is in its layer: (earlier index, object id), latest first.

        For what it reads that is the last writer; for what it writes also each reader since.

        Raises
        ------
        IndexError
            There is no such transaction.
        """

def resolve_object_deps(items: list[tuple[list[bytes], list[bytes]]]) -> ObjectDeps:
    """Layers of indices that may run in parallel, from each item's (reads, writes), ids of 32 bytes.

    Conflicting writers keep their order in the batch; equal input gives equal layers.

    Raises
    ------
    ValueError
        Names the id that is not 32 bytes.
    """

def vote_message(epoch: int, transaction_id: bytes, sender: bytes, nonce: int) -> bytes:
    """What a delegate signs: `love-vote-v1\\0`, epoch, id (32), sender (32), nonce; 64-bit big-endian."""

@final
class DoubleVote:
    """Two votes of one delegate for one (sender, nonce); both signatures verify."""

    @property
    def delegate_id(self) -> str: ...
    @property
    def sender(self) -> bytes: ...
    @property
    def nonce(self) -> int: ...
    @property
    def transaction_ids(self) -> tuple[bytes, bytes]: ...
    @property
    def signatures(self) -> tuple[bytes, bytes]:
        """Of the votes for these transactions, in their order."""

@final
class Tally:
    """What the votes for one transaction come to."""

    @property
    def transaction_id(self) -> bytes: ...
    @property
    def final(self) -> bool:
        """Verified votes are worth at least 2/3 of all stake."""
    @property
    def stake(self) -> int: ...
    @property
    def voters(self) -> list[str]: ...
    @property
    def refused(self) -> list[str]:
        """Delegates whose vote counts for nothing: unknown, badly signed, or a double vote."""
    @property
    def double_votes(self) -> list[DoubleVote]:
        """Proofs that a voter also voted for another transaction of this sender's nonce."""

def dpos_parallel_collect(
    votes: list[tuple[str, bytes, bytes, int, bytes]],
    delegates: list[tuple[str, str, bytes, int]],
    epoch: int,
) -> list[Tally]:
    """Verify all votes and tally them by transaction, in order of first appearance.

    A delegate that voted for two transactions of one nonce counts for neither.

    Parameters
    ----------
    votes : list of (delegate_id, transaction_id, sender, nonce, signature)
    delegates : list of (delegate_id, algorithm, public_key, stake)
        All of the epoch, also those that did not vote: 2/3 is of their whole stake.
    """

@final
class BallotOutcome:
    """What the votes for one ballot come to."""

    @property
    def tally(self) -> Tally: ...
    @property
    def signatures(self) -> list[tuple[str, bytes]]:
        """Of the tally's voters, by delegate id."""
    @property
    def locked_stake(self) -> int:
        """Stake of those that have promised this sender's nonce to another transaction."""

@final
class NodeReport:
    """What asking one delegate came to."""

    @property
    def delegate_id(self) -> str: ...
    @property
    def outcome(self) -> str:
        """`answered`, `pending`, `resting`, `not_asked`, `unreachable`, `timed_out`, `refused` or `garbage`."""
    @property
    def latency_ms(self) -> float | None:
        """Until it answered or failed."""
    @property
    def attempts(self) -> int: ...

@final
class Electorate:
    """The delegates of an epoch, asked over gRPC with mutual TLS; it keeps connections and breakers.

    Nothing is connected before the first call. Safe for threads, and after a fork.

    Parameters
    ----------
    delegates : list of (delegate_id, algorithm, public_key, stake, is_full, address)
        `address` is `host:port`; the host is the name or IP address in its certificate.
    ca_pem, client_cert_pem, client_key_pem : str

    Raises
    ------
    ValueError
        Names the address or the credential that can't be used.
    """

    def __new__(
        cls,
        delegates: list[tuple[str, str, bytes, int, bool, str]],
        epoch: int,
        ca_pem: str,
        client_cert_pem: str,
        client_key_pem: str,
    ) -> Electorate: ...
    def collect(
        self,
        ballots: list[tuple[bytes, bytes, int, bytes, str, bytes, bytes]],
        deadline_ms: int,
        cold_deadline_ms: int,
    ) -> tuple[list[BallotOutcome], list[NodeReport]]:
        """Ask for votes until each ballot has a quorum or can't have one, or the deadline has come.

        Light nodes are asked at once, full ones when these don't suffice; slow ones twice.

        Parameters
        ----------
        ballots : list of (transaction_id, sender, nonce, header, algorithm, public_key, signature)
            At most 1,000; ids are 32 bytes.
        deadline_ms, cold_deadline_ms : int
            1 to 60,000; the second while connections to a quorum are still to be made.

        Raises
        ------
        ValueError
            Names the argument and its rule.
        """
    def store(
        self,
        batch_id: str,
        wrapped_keys: list[tuple[str, bytes]],
        items: list[
            tuple[
                tuple[bytes, str, bytes, bytes],
                tuple[str, bytes],
                tuple[str, int, str],
                list[tuple[str, bytes]],
            ]
        ],
        deadline_ms: int,
    ) -> list[str]:
        """Give a sealed batch to the full nodes; the ids of those that had it on disk at the first answer.

        Nobody's answer within the deadline is an empty list; the nodes go on getting it.

        Parameters
        ----------
        items : list of ((header, algorithm, public_key, signature), (key_id, ciphertext), (home_continent, accepted_at_ms, request_id), votes)
            `votes` is a list of (delegate_id, signature).

        Raises
        ------
        ValueError
            Names the argument and its rule.
        """

@final
class Place:
    """The nearest city of a position."""

    @property
    def city(self) -> str: ...
    @property
    def country(self) -> str:
        """ISO 3166-1 alpha-2."""
    @property
    def continent(self) -> str:
        """One of the federation's seven."""
    @property
    def h3_cell(self) -> str:
        """Resolution 7, 15 hex digits."""
    @property
    def distance_m(self) -> int: ...
    @property
    def geoname_id(self) -> int: ...

def locate(positions: list[tuple[int, int]]) -> list[Place]:
    """Proof of Place for (latitude_e7, longitude_e7), degrees (WGS 84) times ten million.

    Raises
    ------
    ValueError
        Names the index and the field that is not on the globe.
    """

def distance_m(a: tuple[int, int], b: tuple[int, int], /) -> float:
    """Great-circle distance in metres of two positions in degrees times ten million."""
