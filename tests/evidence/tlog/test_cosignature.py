"""Cosignatures: the messages of the specification's text, and what does not verify."""

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.errors import SignatureInvalid
from evidence.merkle import EMPTY_ROOT
from evidence.tlog.checkpoint import Checkpoint, parse_checkpoint_body
from evidence.tlog.cosignature import (
    Cosigner,
    cosigned_message,
    ed25519_message,
    verify_cosignature,
    verify_timestamped,
)
from evidence.tlog.note import (
    COSIGNATURE_ED25519,
    ED25519,
    ML_DSA_44,
    NoteSignature,
    VerifierKey,
    parse_note,
)

BODY = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
CHECKPOINT = parse_checkpoint_body(BODY)
EXAMPLE = (
    BODY + "\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv"
    "2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2"
    "oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
WITNESS = Cosigner(
    "witness.example/w1", Ed25519PrivateKey.generate(), MLDSA44PrivateKey.from_seed_bytes(bytes(32))
)
AT_S = 1679315147


def test_the_example_of_the_specification_carries_the_time_of_its_text() -> None:
    """tlog-cosignature shows the line and, further down, `time 1679315147`."""
    line = parse_note(EXAMPLE.encode()).signatures[1]
    assert line.name == "witness.example.com/w1"
    assert int.from_bytes(line.value[:8], "big") == AT_S
    assert len(line.value) == 8 + 64


def test_the_ed25519_message_is_the_one_of_the_specification() -> None:
    """Header line, time line, body."""
    assert ed25519_message(CHECKPOINT, AT_S).decode() == (
        "cosignature/v1\n"
        "time 1679315147\n"
        "example.com/behind-the-sofa\n"
        "20852163\n"
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )


def test_the_ml_dsa_message_is_the_structure_of_the_specification() -> None:
    """Each field written by hand from the structure's text."""
    expected = (
        bytes.fromhex("737562747265652f76310a00")
        + b"\x12witness.example/w1"
        + bytes.fromhex("0000000064 1850cb")
        + b"\x1bexample.com/behind-the-sofa"
        + bytes.fromhex("0000000000000000")
        + bytes.fromhex("00000000013e2dc3")
        + CHECKPOINT.root
    )
    assert cosigned_message("witness.example/w1", AT_S, CHECKPOINT) == expected


def test_both_lines_of_a_witness_verify_and_return_the_time() -> None:
    """Type 0x04 first, then 0x06."""
    lines = WITNESS.cosign(CHECKPOINT, AT_S)
    keys = WITNESS.verifier_keys
    assert [key.kind for key in keys] == [COSIGNATURE_ED25519, ML_DSA_44]
    assert [len(line.value) for line in lines] == [72, 2428]
    for line, key in zip(lines, keys, strict=True):
        assert verify_cosignature(CHECKPOINT, line, key) == AT_S


def test_a_witness_without_the_second_key_makes_one_line() -> None:
    """ML-DSA-44 may be missing."""
    witness = Cosigner("witness.example/w2", Ed25519PrivateKey.generate(), None)
    (line,) = witness.cosign(CHECKPOINT, AT_S)
    (key,) = witness.verifier_keys
    assert verify_cosignature(CHECKPOINT, line, key) == AT_S


@pytest.mark.parametrize("place", [0, 1])
def test_one_flipped_bit_anywhere_is_refused(place: int) -> None:
    """In the time or in the signature, first bit and last."""
    line, key = WITNESS.cosign(CHECKPOINT, AT_S)[place], WITNESS.verifier_keys[place]
    for position in (0, 7, 8, 40, len(line.value) - 1):
        value = bytearray(line.value)
        value[position] ^= 0x80
        with pytest.raises(SignatureInvalid):
            verify_cosignature(CHECKPOINT, dataclasses.replace(line, value=bytes(value)), key)


@pytest.mark.parametrize("place", [0, 1])
def test_a_cosignature_holds_for_one_checkpoint_only(place: int) -> None:
    """Another size, root or origin is refused."""
    line, key = WITNESS.cosign(CHECKPOINT, AT_S)[place], WITNESS.verifier_keys[place]
    for other in (
        dataclasses.replace(CHECKPOINT, size=CHECKPOINT.size + 1),
        dataclasses.replace(CHECKPOINT, root=bytes(32)),
        dataclasses.replace(CHECKPOINT, origin="example.com/behind-the-couch"),
    ):
        with pytest.raises(SignatureInvalid):
            verify_cosignature(other, line, key)


@pytest.mark.parametrize("place", [0, 1])
def test_a_cosignature_of_the_wrong_length_is_refused(place: int) -> None:
    """Nothing, a cut time, a cut signature, a byte too many."""
    line, key = WITNESS.cosign(CHECKPOINT, AT_S)[place], WITNESS.verifier_keys[place]
    for value in (b"\x00", line.value[:8], line.value[:-1], line.value + b"\x00"):
        with pytest.raises(SignatureInvalid):
            verify_cosignature(CHECKPOINT, dataclasses.replace(line, value=value), key)


def test_a_line_of_another_key_or_type_is_refused() -> None:
    """The key must be the one that the line names, and make cosignatures at all."""
    ed25519_line, ml_dsa_line = WITNESS.cosign(CHECKPOINT, AT_S)
    ed25519_key, ml_dsa_key = WITNESS.verifier_keys
    with pytest.raises(SignatureInvalid):
        verify_cosignature(CHECKPOINT, ed25519_line, ml_dsa_key)
    with pytest.raises(SignatureInvalid):
        verify_cosignature(CHECKPOINT, ml_dsa_line, ed25519_key)
    log_key = dataclasses.replace(ed25519_key, kind=ED25519)
    renamed = dataclasses.replace(ed25519_line, key_id=log_key.key_id)
    with pytest.raises(SignatureInvalid):
        verify_cosignature(CHECKPOINT, renamed, log_key)


def timed(key: VerifierKey, time: bytes, raw: bytes) -> NoteSignature:
    """A line of a key with a time of our choice."""
    return NoteSignature(name=key.name, key_id=key.key_id, value=time + raw)


def test_a_time_beyond_the_limit_is_refused() -> None:
    """2**63 and more must not be, whatever is signed."""
    private = Ed25519PrivateKey.generate()
    (key,) = Cosigner("witness.example", private, None).verifier_keys
    at_s = 2**63
    raw = private.sign(ed25519_message(CHECKPOINT, at_s))
    with pytest.raises(SignatureInvalid, match="beyond"):
        verify_cosignature(CHECKPOINT, timed(key, at_s.to_bytes(8, "big"), raw), key)


def test_a_witness_that_states_no_time_is_refused() -> None:
    """A valid signature with time zero attests nothing about when; a log's own line may."""
    private = Ed25519PrivateKey.generate()
    (key,) = Cosigner("witness.example", private, None).verifier_keys
    line = timed(key, bytes(8), private.sign(ed25519_message(CHECKPOINT, 0)))
    assert verify_timestamped(CHECKPOINT, line, key) == 0
    with pytest.raises(SignatureInvalid, match="no time"):
        verify_cosignature(CHECKPOINT, line, key)


def test_names_and_origins_have_at_most_255_bytes() -> None:
    """The structure has one length byte."""
    longest = Checkpoint(origin="o" * 255, size=0, root=EMPTY_ROOT)
    assert len(cosigned_message("n" * 255, 1, longest)) == 12 + 256 + 8 + 256 + 16 + 32
    too_long = dataclasses.replace(longest, origin="o" * 256)
    for cosigner, head in (("n" * 256, longest), ("n", too_long), ("", longest)):
        with pytest.raises(ValueError, match="255 bytes"):
            cosigned_message(cosigner, 1, head)
    line, key = WITNESS.cosign(CHECKPOINT, AT_S)[1], WITNESS.verifier_keys[1]
    with pytest.raises(SignatureInvalid):
        verify_cosignature(too_long, line, key)


@pytest.mark.parametrize("at_s", [-1, 0, 2**63])
def test_a_witness_makes_no_cosignature_without_a_time(at_s: int) -> None:
    """The caller's mistake, not the sender's."""
    with pytest.raises(ValueError, match="time"):
        WITNESS.cosign(CHECKPOINT, at_s)
