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
        SIGNED: _ClassVar[Vote.Status]
        REFUSED: _ClassVar[Vote.Status]
    STATUS_UNSPECIFIED: Vote.Status
    SIGNED: Vote.Status
    REFUSED: Vote.Status
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
