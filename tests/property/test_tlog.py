"""The parsers of the log's formats: any bytes leave a value that writes them again, or an error."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from evidence.errors import EvidenceError
from evidence.merkle import EMPTY_ROOT
from evidence.tlog.checkpoint import (
    Checkpoint,
    LogSigner,
    open_checkpoint,
    parse_checkpoint_body,
    timestamped_message,
)
from evidence.tlog.cosignature import Cosigner, verify_cosignature
from evidence.tlog.note import Note, NoteSignature, VerifierKey, parse_note, parse_vkey
from evidence.tlog.policy import parse_policy
from evidence.tlog.proof import TlogProof, parse_tlog_proof
from evidence.tlog.tiles import TileName, decode_bundle, encode_bundle, parse_tile_path

LOG = LogSigner("log.example/a", Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
WITNESS = Cosigner("w.example", Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
CHECKPOINT = Checkpoint(origin="log.example/a", size=9, root=bytes(32))
NOTE = parse_note(LOG.sign(CHECKPOINT, 1))
COSIGNED = Note(
    text=NOTE.text, signatures=(*NOTE.signatures, *WITNESS.cosign(CHECKPOINT, 2))
).encode()
PROOF = TlogProof(index=3, hashes=(EMPTY_ROOT,) * 4, checkpoint=COSIGNED, extra=b"e").encode()
POLICY = (
    f"log {LOG.verifier_keys[0].encode()}\nwitness w {WITNESS.verifier_keys[0].encode()} url\n"
    "group g any w\nquorum g\n"
).encode()

# What the formats are made of, so that random pieces often come close to a valid file.
WORDS = (
    b"\n|\n\n| |\xe2\x80\x94 |log.example/a|+|0|9|AAAA|==|c2sp.org/tlog-proof@v1\n|index 0\n"
    b"|extra AA==\n|quorum none\n|witness w |group g any w\n|tile/|entries/|x001/|001|.p/|\xff|\0"
).split(b"|")
PIECES = st.sampled_from(
    [*WORDS, EMPTY_ROOT, LOG.verifier_keys[0].key_id, WITNESS.verifier_keys[0].encode().encode()]
)
PLAIN = st.binary(max_size=300) | st.lists(PIECES | st.binary(max_size=4), max_size=30).map(
    b"".join
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A valid file with a piece cut out and another one put in its place."""
    start = draw(st.integers(min_value=0, max_value=len(whole)))
    end = draw(st.integers(min_value=start, max_value=min(len(whole), start + 50)))
    return whole[:start] + draw(PIECES | st.binary(max_size=4)) + whole[end:]


def near(whole: bytes) -> st.SearchStrategy[bytes]:
    """Arbitrary bytes, and bytes that are almost the valid file."""
    return PLAIN | damaged(whole)


def holds(read: Callable[[], bytes], data: bytes) -> None:
    """Reading either fails with an EvidenceError or gives what writes the same bytes."""
    try:
        written = read()
    except EvidenceError:
        return
    assert written == data


@given(near(COSIGNED))
@example(COSIGNED)
def test_notes(data: bytes) -> None:
    """parse_note."""
    holds(lambda: parse_note(data).encode(), data)


@given(near(COSIGNED))
@example(COSIGNED)
def test_opened_checkpoints(data: bytes) -> None:
    """open_checkpoint lets through what the log signed and nothing else."""
    try:
        opened = open_checkpoint(data, LOG.verifier_keys)
    except EvidenceError:
        assert data != COSIGNED
    else:
        assert opened.checkpoint == CHECKPOINT
        assert opened.note.encode() == data


@given(near(COSIGNED))
def test_stamped_messages(data: bytes) -> None:
    """timestamped_message is a beginning of the note and lines of the log."""
    try:
        message = timestamped_message(data, "log.example/a")
    except EvidenceError:
        return
    assert parse_checkpoint_body(parse_note(message).text).origin == "log.example/a"


@given(near(CHECKPOINT.body().encode()).map(lambda data: data.decode(errors="replace")))
def test_checkpoint_bodies(text: str) -> None:
    """parse_checkpoint_body."""
    try:
        assert parse_checkpoint_body(text).body() == text
    except EvidenceError:
        assert text != CHECKPOINT.body()


@given(
    st.text() | near(WITNESS.verifier_keys[0].encode().encode()).map(lambda b: b.decode("latin-1"))
)
@example(LOG.verifier_keys[1].encode())
def test_verifier_keys(text: str) -> None:
    """parse_vkey, lone surrogates included."""
    try:
        key = parse_vkey(text)
    except EvidenceError:
        return
    assert key.encode() == text


@given(near(PROOF))
@example(PROOF)
def test_proof_files(data: bytes) -> None:
    """parse_tlog_proof."""
    holds(lambda: parse_tlog_proof(data).encode(), data)


@given(near(POLICY))
@example(POLICY)
def test_policies(data: bytes) -> None:
    """parse_policy: what it read, it reads again from what it wrote."""
    try:
        policy = parse_policy(data)
    except EvidenceError:
        assert data != POLICY
    else:
        assert parse_policy(policy.encode()) == policy


@given(
    near(b"tile/entries/x001/x234/067.p/12").map(lambda data: data.decode("latin-1")) | st.text()
)
def test_tile_paths(path: str) -> None:
    """parse_tile_path."""
    try:
        name = parse_tile_path(path)
    except EvidenceError:
        return
    assert name.path() == path


@given(near(encode_bundle([b"one", b"", b"three"])))
def test_bundles(data: bytes) -> None:
    """decode_bundle."""
    holds(lambda: encode_bundle(decode_bundle(data)), data)


@given(
    st.none() | st.integers(min_value=0, max_value=63),
    st.integers(min_value=0, max_value=2**55),
    st.integers(min_value=1, max_value=256),
)
def test_every_tile_has_one_path(level: int | None, index: int, width: int) -> None:
    """Written and read back."""
    name = TileName(level=level, index=index, width=width)
    assert parse_tile_path(name.path()) == name


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_every_bundle_is_read_back(entries: list[bytes]) -> None:
    """Written and read back."""
    assert decode_bundle(encode_bundle(entries)) == entries


@given(st.binary(min_size=1, max_size=100) | damaged(NOTE.signatures[1].value).filter(bool))
def test_arbitrary_signatures_do_not_verify(value: bytes) -> None:
    """Under no type of key, and only EvidenceError says so."""
    keys: tuple[VerifierKey, ...] = WITNESS.verifier_keys
    for key in keys:
        line = NoteSignature(name=key.name, key_id=key.key_id, value=value)
        with pytest.raises(EvidenceError):
            verify_cosignature(CHECKPOINT, line, key)
