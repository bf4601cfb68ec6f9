from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VoteRequest(_message.Message):
    __slots__ = ("epoch", "items")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    items: _containers.RepeatedCompositeFieldContainer[SignedHeader]
    def __init__(self, epoch: _Optional[int] = ..., items: _Optional[_Iterable[_Union[SignedHeader, _Mapping]]] = ...) -> None: ...

class SignedHeader(_message.Message):
    __slots__ = ("header", "algorithm", "public_key", "signature")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    algorithm: str
    public_key: bytes
    signature: bytes
    def __init__(self, header: _Optional[bytes] = ..., algorithm: _Optional[str] = ..., public_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class VoteResponse(_message.Message):
    __slots__ = ("delegate_id", "epoch", "votes")
    DELEGATE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    delegate_id: str
    epoch: int
    votes: _containers.RepeatedCompositeFieldContainer[Vote]
    def __init__(self, delegate_id: _Optional[str] = ..., epoch: _Optional[int] = ..., votes: _Optional[_Iterable[_Union[Vote, _Mapping]]] = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ("transaction_id", "status", "signature", "reason", "locked_transaction_id")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[Vote.Status]
        STATUS_SIGNED: _ClassVar[Vote.Status]
        STATUS_REFUSED: _ClassVar[Vote.Status]
    STATUS_UNSPECIFIED: Vote.Status
    STATUS_SIGNED: Vote.Status
    STATUS_REFUSED: Vote.Status
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LOCKED_TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    transaction_id: bytes
    status: Vote.Status
    signature: bytes
    reason: str
    locked_transaction_id: bytes
    def __init__(self, transaction_id: _Optional[bytes] = ..., status: _Optional[_Union[Vote.Status, str]] = ..., signature: _Optional[bytes] = ..., reason: _Optional[str] = ..., locked_transaction_id: _Optional[bytes] = ...) -> None: ...

class StoreRequest(_message.Message):
    __slots__ = ("epoch", "batch_id", "wrapped_keys", "items")
    class WrappedKeysEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEYS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    batch_id: str
    wrapped_keys: _containers.ScalarMap[str, bytes]
    items: _containers.RepeatedCompositeFieldContainer[StoredItem]
    def __init__(self, epoch: _Optional[int] = ..., batch_id: _Optional[str] = ..., wrapped_keys: _Optional[_Mapping[str, bytes]] = ..., items: _Optional[_Iterable[_Union[StoredItem, _Mapping]]] = ...) -> None: ...

class StoredItem(_message.Message):
    __slots__ = ("header", "sealed", "home_continent", "accepted_at_ms", "request_id", "votes")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    HOME_CONTINENT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    header: SignedHeader
    sealed: Sealed
    home_continent: str
    accepted_at_ms: int
    request_id: str
    votes: _containers.RepeatedCompositeFieldContainer[SignedVote]
    def __init__(self, header: _Optional[_Union[SignedHeader, _Mapping]] = ..., sealed: _Optional[_Union[Sealed, _Mapping]] = ..., home_continent: _Optional[str] = ..., accepted_at_ms: _Optional[int] = ..., request_id: _Optional[str] = ..., votes: _Optional[_Iterable[_Union[SignedVote, _Mapping]]] = ...) -> None: ...

class Sealed(_message.Message):
    __slots__ = ("key_id", "ciphertext")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    ciphertext: bytes
    def __init__(self, key_id: _Optional[str] = ..., ciphertext: _Optional[bytes] = ...) -> None: ...

class SignedVote(_message.Message):
    __slots__ = ("delegate_id", "epoch", "signature")
    DELEGATE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    delegate_id: str
    epoch: int
    signature: bytes
    def __init__(self, delegate_id: _Optional[str] = ..., epoch: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class StoreResponse(_message.Message):
    __slots__ = ("delegate_id", "kept", "refusals")
    DELEGATE_ID_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    delegate_id: str
    kept: int
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    def __init__(self, delegate_id: _Optional[str] = ..., kept: _Optional[int] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("index", "reason")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    index: int
    reason: str
    def __init__(self, index: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("nonce", "transaction_ids")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_IDS_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    transaction_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, nonce: _Optional[bytes] = ..., transaction_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FetchResponse(_message.Message):
    __slots__ = ("delegate_id", "transactions", "missing_ids", "algorithm", "signature", "left_ids")
    DELEGATE_ID_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    MISSING_IDS_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    LEFT_IDS_FIELD_NUMBER: _ClassVar[int]
    delegate_id: str
    transactions: _containers.RepeatedCompositeFieldContainer[KeptTransaction]
    missing_ids: _containers.RepeatedScalarFieldContainer[bytes]
    algorithm: str
    signature: bytes
    left_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, delegate_id: _Optional[str] = ..., transactions: _Optional[_Iterable[_Union[KeptTransaction, _Mapping]]] = ..., missing_ids: _Optional[_Iterable[bytes]] = ..., algorithm: _Optional[str] = ..., signature: _Optional[bytes] = ..., left_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class KeptTransaction(_message.Message):
    __slots__ = ("transaction_id", "stored_item", "wrapped_key", "votes")
    TRANSACTION_ID_FIELD_NUMBER: _ClassVar[int]
    STORED_ITEM_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEY_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    transaction_id: bytes
    stored_item: bytes
    wrapped_key: bytes
    votes: _containers.RepeatedCompositeFieldContainer[SignedVote]
    def __init__(self, transaction_id: _Optional[bytes] = ..., stored_item: _Optional[bytes] = ..., wrapped_key: _Optional[bytes] = ..., votes: _Optional[_Iterable[_Union[SignedVote, _Mapping]]] = ...) -> None: ...

class EvidenceRequest(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class EvidenceResponse(_message.Message):
    __slots__ = ("delegate_id", "double_votes")
    DELEGATE_ID_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VOTES_FIELD_NUMBER: _ClassVar[int]
    delegate_id: str
    double_votes: _containers.RepeatedCompositeFieldContainer[DoubleVote]
    def __init__(self, delegate_id: _Optional[str] = ..., double_votes: _Optional[_Iterable[_Union[DoubleVote, _Mapping]]] = ...) -> None: ...

class DoubleVote(_message.Message):
    __slots__ = ("delegate_id", "epoch", "sender", "nonce", "transaction_ids", "signatures")
    DELEGATE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_IDS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    delegate_id: str
    epoch: int
    sender: bytes
    nonce: int
    transaction_ids: _containers.RepeatedScalarFieldContainer[bytes]
    signatures: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, delegate_id: _Optional[str] = ..., epoch: _Optional[int] = ..., sender: _Optional[bytes] = ..., nonce: _Optional[int] = ..., transaction_ids: _Optional[_Iterable[bytes]] = ..., signatures: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RangesRequest(_message.Message):
    __slots__ = ("prefixes",)
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    prefixes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, prefixes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RangesResponse(_message.Message):
    __slots__ = ("delegate_id", "ranges")
    DELEGATE_ID_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    delegate_id: str
    ranges: _containers.RepeatedCompositeFieldContainer[RangeDigest]
    def __init__(self, delegate_id: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[RangeDigest, _Mapping]]] = ...) -> None: ...

class RangeDigest(_message.Message):
    __slots__ = ("count", "digest", "entries")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    count: int
    digest: bytes
    entries: bytes
    def __init__(self, count: _Optional[int] = ..., digest: _Optional[bytes] = ..., entries: _Optional[bytes] = ...) -> None: ...
