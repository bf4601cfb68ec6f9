"""Whatever Python hands over, the Rust core answers or raises an ordinary error: it never panics."""

import inspect
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cert_rust
import federation_dag
import flag_rust
from federation.regions import Continent
from lovectl.accounts import Issuer, make_account
from lovectl.pki import FederationCa, TransportPki

MODULES = (cert_rust, federation_dag, flag_rust)
# Operators through which any object gets in.
TAKES_ANYTHING = ("__getitem__", "__eq__", "__contains__")
ORDINARY = (ValueError, TypeError, OverflowError, IndexError)

CA = FederationCa.create()
CERTIFICATE = make_account(
    Issuer(CA, Ed25519PrivateKey.generate(), "k", "i", "a"), Continent.EUROPE
).certificate
AUTHORITY = cert_rust.Authority(CA.certificate_der, None)
PRIVATE, PUBLIC = cert_rust.hybrid_keygen()
SEALED = cert_rust.hybrid_seal(PUBLIC, b"rent", b"ids")
SEALER = cert_rust.ContentSealer(PUBLIC, "key")
SIGNER = Ed25519PrivateKey.generate()
SIGNER_PUBLIC = SIGNER.public_key().public_bytes_raw()
ID, OTHER_ID = b"\x01" * 32, b"\x02" * 32
VOTE = SIGNER.sign(federation_dag.vote_message(3, ID, OTHER_ID, 7))
DOCUMENT = b'{"amount":5,"content":{"note":"x"},"nonce":1,"signature":"s"}'
OBJECTS = [([ID], [OTHER_ID]), ([OTHER_ID], [ID, ID])]
DEPS = federation_dag.resolve_object_deps(OBJECTS)
HEADER = ("Ed25519", SIGNER_PUBLIC, DOCUMENT, SIGNER.sign(DOCUMENT))
FLAGS = array("I", [flag_rust.VERIFIED, flag_rust.PLACED])
BATCH = federation_dag.verify_headers([HEADER])

PKI = TransportPki.create(Path(tempfile.mkdtemp()))
PKI_PEM = (
    PKI.ca_file.read_text(),
    PKI.client_certificate_file.read_text(),
    PKI.client_key_file.read_text(),
)
# Nobody listens there.
ELECTORATE = federation_dag.Electorate(
    [("delegate", "Ed25519", SIGNER_PUBLIC, 10, True, "127.0.0.1:1")], 3, *PKI_PEM
)
SIGNED_HEADER = (DOCUMENT, "Ed25519", SIGNER_PUBLIC, VOTE)

# A good call of each public function and method; a new one fails the tests until it has one.
GOOD_CALLS: dict[str, tuple[Any, ...]] = {
    "cert_rust.ContentSealer": (PUBLIC, "key", 10, 60),
    "cert_rust.ContentSealer.seal": (SEALER, b"rent", b"ids"),
    "cert_rust.Authority": (CA.certificate_der, CA.revocation_list()),
    "cert_rust.Authority.check": (AUTHORITY, CERTIFICATE, int(time.time())),
    "cert_rust.Authority.replace_crl": (AUTHORITY, CA.revocation_list()),
    "cert_rust.hybrid_keygen": (),
    "cert_rust.hybrid_open": (PRIVATE, *SEALED, b"ids"),
    "cert_rust.hybrid_seal": (PUBLIC, b"rent", b"ids"),
    "federation_dag.account_id": ("Ed25519", SIGNER_PUBLIC),
    "federation_dag.batch_verify": ([("Ed25519", SIGNER_PUBLIC, b"m", SIGNER.sign(b"m"))] * 3,),
    "federation_dag.canonicalize": (DOCUMENT,),
    "federation_dag.distance_m": ((0, 0), (900_000_000, 1_800_000_000)),
    "federation_dag.dpos_parallel_collect": (
        [("delegate", ID, OTHER_ID, 7, VOTE)],
        [("delegate", "Ed25519", SIGNER_PUBLIC, 10), ("other", "Ed25519", SIGNER_PUBLIC, 2**63)],
        3,
    ),
    "federation_dag.Electorate": (
        [("delegate", "Ed25519", SIGNER_PUBLIC, 10, False, "127.0.0.1:1")],
        3,
        *PKI_PEM,
    ),
    "federation_dag.Electorate.collect": (ELECTORATE, [(ID, OTHER_ID, 7, *SIGNED_HEADER)], 20, 20),
    "federation_dag.Electorate.store": (
        ELECTORATE,
        "batch",
        [("key", b"wrapped")],
        [(SIGNED_HEADER, ("key", b"sealed"), ("Asia", 1, "request"), [("delegate", VOTE)])],
        20,
    ),
    "federation_dag.ObjectDeps.__eq__": (DEPS, [[0], [1]]),
    "federation_dag.ObjectDeps.__getitem__": (DEPS, 0),
    "federation_dag.ObjectDeps.conflicts": (DEPS, 1),
    "federation_dag.VerifiedBatch.__getitem__": (BATCH, 0),
    "federation_dag.VerifiedBatch.places": (BATCH,),
    "federation_dag.locate": ([(0, 0), (900_000_000, -1_800_000_000)],),
    "federation_dag.resolve_object_deps": (OBJECTS,),
    "federation_dag.name_transaction": (DOCUMENT,),
    "federation_dag.verify_headers": ([HEADER] * 2,),
    "federation_dag.vote_message": (3, ID, OTHER_ID, 7),
    "flag_rust.check": (flag_rust.VERIFIED,),
    "flag_rust.count": (FLAGS, flag_rust.VERIFIED),
    "flag_rust.first_impossible": (FLAGS,),
    "flag_rust.from_names": (["verified", "placed"],),
    "flag_rust.merge": (flag_rust.VERIFIED, flag_rust.PLACED),
    "flag_rust.merge_into": (array("I", FLAGS), FLAGS),
    "flag_rust.names": (flag_rust.VERIFIED,),
}


def public_callables(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions, classes that can be made, and methods, by full name."""
    for name in module.__all__:
        found = getattr(module, name)
        if not inspect.isclass(found):
            if callable(found):
                yield f"{module.__name__}.{name}", found
            continue
        if issubclass(found, Exception):
            continue
        if found.__new__ is not object.__new__:
            yield f"{module.__name__}.{name}", found
        for attribute, method in vars(found).items():
            if callable(method) and (attribute in TAKES_ANYTHING or not attribute.startswith("__")):
                yield f"{module.__name__}.{name}.{attribute}", method


CALLABLES = {name: found for module in MODULES for name, found in public_callables(module)}


class EndlessSequence(Sequence[Any]):
    """Says that it is longer than any memory."""

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: Any) -> Any:
        raise IndexError


class Uncountable:
    """An integer that can't be had."""

    def __index__(self) -> int:
        raise ValueError("no number")


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [-1, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 2**128, 10**400]
    ),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["\ud800", "Ed25519", "ML-DSA-44", "ML-DSA-65", "\0", "verified"]),
    st.binary(max_size=40),
    st.binary(max_size=3_500).map(bytearray),
    st.sampled_from([0, 31, 32, 33, 64, 1312, 1952, 2420, 3309]).map(bytes),
    st.binary(max_size=40).map(lambda part: memoryview(part)),
    st.binary(max_size=40).map(lambda part: array("I", part[: len(part) // 4 * 4])),
    st.sampled_from([object(), object, len, range(3), Uncountable(), EndlessSequence(), iter(())]),
)
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    max_leaves=12,
)


@st.composite
def nearly(draw: st.DrawFn, good: Any) -> Any:
    """A good argument in which one part, somewhere, is another."""
    if isinstance(good, bytes) and good and draw(st.booleans()):
        at = draw(st.integers(0, len(good) - 1))
        flipped = bytes([good[at] ^ (1 << draw(st.integers(0, 7)))])
        return draw(
            st.sampled_from([good[:at], good + good[at:], good[:at] + flipped + good[at + 1 :]])
        )
    if isinstance(good, (list, tuple)) and good and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(good) - 1))
        parts = [*good]
        parts[at] = draw(nearly(good[at]))
        return type(good)(parts)
    return draw(junk)


def answer_or_ordinary_error(name: str, arguments: Sequence[Any], named: dict[str, Any]) -> None:
    try:
        CALLABLES[name](*arguments, **named)
    except ORDINARY:
        return
    except BaseException as error:
        # Also a panic, which PyO3 keeps apart from `Exception`.
        pytest.fail(f"{name} raised {type(error).__mro__}: {error}")


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_every_public_function_has_a_good_call(name: str) -> None:
    assert name in GOOD_CALLS, f"give {name} a good call in GOOD_CALLS"
    CALLABLES[name](*GOOD_CALLS[name])


def test_no_good_call_is_of_a_function_that_is_gone() -> None:
    assert sorted(GOOD_CALLS) == sorted(CALLABLES)


@pytest.mark.parametrize("name", sorted(CALLABLES))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_good_call_with_a_wrong_part_is_answered_or_an_ordinary_error(
    name: str, data: st.DataObject
) -> None:
    arguments = [*(GOOD_CALLS[name] or (None,))]
    at = data.draw(st.integers(0, len(arguments) - 1))
    arguments[at] = data.draw(nearly(arguments[at]))
    answer_or_ordinary_error(name, arguments, {})


@pytest.mark.parametrize("name", sorted(CALLABLES))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(junk, max_size=6), st.dictionaries(st.text(max_size=8), junk, max_size=2))
def test_junk_is_an_ordinary_error(name: str, arguments: list[Any], named: dict[str, Any]) -> None:
    answer_or_ordinary_error(name, arguments, named)


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_a_sequence_that_lies_about_its_length_is_not_believed(name: str) -> None:
    for arguments in with_each_list_replaced(GOOD_CALLS[name], EndlessSequence()):
        answer_or_ordinary_error(name, arguments, {})


def with_each_list_replaced(good: Any, by: Any) -> Iterator[Any]:
    """`good` as often as it holds a list or a tuple, with another one replaced each time."""
    if isinstance(good, (list, tuple)):
        for at, part in enumerate(good):
            if isinstance(part, (list, tuple)):
                yield type(good)([*good[:at], by, *good[at + 1 :]])
            for changed in with_each_list_replaced(part, by):
                yield type(good)([*good[:at], changed, *good[at + 1 :]])


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (module, name)
        for module in MODULES
        for name in module.__all__
        if inspect.isclass(getattr(module, name))
        and f"{module.__name__}.{name}" not in CALLABLES
        and not issubclass(getattr(module, name), Exception)
    ],
)
def test_a_result_of_the_core_can_not_be_made_by_hand_or_forged_by_a_subclass(
    module: ModuleType, name: str
) -> None:
    made = getattr(module, name)
    with pytest.raises(TypeError):
        made()
    with pytest.raises(TypeError):
        type("Forged", (made,), {})
