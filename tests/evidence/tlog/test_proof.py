"""Proof files: round trip, and each malformed line refused."""

import dataclasses
from base64 import b64encode
from hashlib import sha256

import pytest

from evidence.errors import CheckpointInvalid, EvidenceError, NoteInvalid, ProofFileInvalid
from evidence.errors import TooLarge as Large
from evidence.tlog.proof import TlogProof, parse_tlog_proof

H1, H2 = sha256(b"hash1").digest(), sha256(b"hash2").digest()
B1, B2 = b64encode(H1).decode(), b64encode(H2).decode()
CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv"
    "2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)
HEADER = "c2sp.org/tlog-proof@v1\n"


@pytest.mark.parametrize(
    ("proof", "expected"),
    [
        (
            TlogProof(index=5, hashes=(H1, H2), checkpoint=CHECKPOINT.encode()),
            f"{HEADER}index 5\n{B1}\n{B2}\n\n{CHECKPOINT}",
        ),
        (
            TlogProof(
                index=10, hashes=(H1,), checkpoint=CHECKPOINT.encode(), extra=b"extra information"
            ),
            f"{HEADER}extra ZXh0cmEgaW5mb3JtYXRpb24=\nindex 10\n{B1}\n\n{CHECKPOINT}",
        ),
        (
            TlogProof(index=0, hashes=(), checkpoint=CHECKPOINT.encode()),
            f"{HEADER}index 0\n\n{CHECKPOINT}",
        ),
        (
            TlogProof(index=20852162, hashes=(H1,) * 64, checkpoint=CHECKPOINT.encode()),
            f"{HEADER}index 20852162\n{(B1 + chr(10)) * 64}\n{CHECKPOINT}",
        ),
    ],
)
def test_proofs_are_written_and_read(proof: TlogProof, expected: str) -> None:
    """Header, extra, index, hashes, blank line, checkpoint verbatim."""
    assert proof.encode().decode() == expected
    assert parse_tlog_proof(expected.encode()) == proof


@pytest.mark.parametrize(
    "head",
    [
        "",
        "wrong-header\nindex 0\n",
        "c2sp.org/tlog-proof@v2\nindex 0\n",
        HEADER,
        f"{HEADER}\n",
        f"{HEADER}extra !!notbase64!!\nindex 0\n",
        f"{HEADER}extra \nindex 0\n",
        f"{HEADER}extra YQ==\n",
        f"{HEADER}extra YR==\nindex 0\n",
        f"{HEADER}extra YQ==\nextra YQ==\nindex 0\n",
        f"{HEADER}index 0\nextra YQ==\n",
        f"{HEADER}index notanumber\n",
        f"{HEADER}index -5\n",
        f"{HEADER}index 00\n",
        f"{HEADER}index 01\n",
        f"{HEADER}index +1\n",
        f"{HEADER}index  1\n",
        f"{HEADER}index ١\n",
        f"{HEADER}Index 1\n",
        f"{HEADER}index {'9' * 20}\n",
        f"{HEADER}index {'9' * 19}\n",
        f"{HEADER}index 20852163\n",
        f"{HEADER}index 0\n!!notbase64!!\n",
        f"{HEADER}index 0\n{b64encode(bytes(64)).decode()}\n",
        f"{HEADER}index 0\n{b64encode(bytes(31)).decode()}\n",
        f"{HEADER}index 0\n{B1} \n",
        f"{HEADER}index 0\r\n{B1}\n",
        f"{HEADER}index 0\n{'a' * 65 * 1024}\n",
    ],
)
def test_other_first_lines_are_refused(head: str) -> None:
    """Wrong header, extra, index or hash."""
    with pytest.raises(ProofFileInvalid):
        parse_tlog_proof(f"{head}\n{CHECKPOINT}".encode())


@pytest.mark.parametrize(
    ("checkpoint", "error"),
    [
        ("", NoteInvalid),
        ("checkpoint\n", NoteInvalid),
        (f"\n{CHECKPOINT}", CheckpointInvalid),
        (CHECKPOINT.replace("20852163", "x"), CheckpointInvalid),
    ],
)
def test_a_proof_into_no_checkpoint_is_refused(checkpoint: str, error: type[EvidenceError]) -> None:
    """What follows the blank line must be a signed checkpoint."""
    with pytest.raises(error):
        parse_tlog_proof(f"{HEADER}index 0\n\n{checkpoint}".encode())


def test_a_proof_beyond_the_limits_is_not_interpreted() -> None:
    """256 KiB and 64 hashes."""
    with pytest.raises(Large):
        parse_tlog_proof(b"c" * (256 * 1024 + 1))
    with pytest.raises(Large):
        parse_tlog_proof(f"{HEADER}index 0\n{(B1 + chr(10)) * 65}\n{CHECKPOINT}".encode())


def test_a_proof_that_could_not_be_read_back_is_not_made() -> None:
    """The same rules hold for what we write."""
    proof = TlogProof(index=0, hashes=(H1,), checkpoint=CHECKPOINT.encode())
    for wrong in (
        {"index": -1},
        {"index": 20852163},
        {"hashes": (b"",)},
        {"hashes": (H1,) * 65},
        {"extra": b""},
        {"checkpoint": b""},
    ):
        with pytest.raises(EvidenceError):
            dataclasses.replace(proof, **wrong)
