"""Independent tools accept a log of 70,107 leaves that `evidence` wrote, and no damaged one.

Judges: golang.org/x/mod (sumdb/note, sumdb/tlog), Go's crypto/mldsa, and aics-tlog.
"""

import dataclasses
import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from evidence.merkle import consistency_proof, inclusion_proof, tree_root
from evidence.tlog.proof import TlogProof
from tests.judges.tlog_judges import (
    Accused,
    Verdict,
    ask_aics,
    ask_mldsa,
    ask_sumdb,
    ask_sumdb_about_proof,
    judge_log,
    refusing,
)
from tests.judges.tlog_log import AT_S, WrittenLog, make_signer, write_log
from tests.tools import ROOT, require_tool

SIZE = 70_107
OLD_SIZES = (1, 255, 256, 65_536, 65_537)
ALL_JUDGES = {
    "sumdb",
    "crypto/mldsa",
    "aics checkpoint",
    "aics inclusion",
    "aics consistency",
    "aics audit",
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> WrittenLog:
    """The log: entries of 20 to 219 bytes, six checkpoints, two witnesses with two keys each."""
    require_tool("aics-tlog")
    entries = [b'{"entry":%012d}' % number + b"." * (number % 200) for number in range(SIZE)]
    return write_log(tmp_path_factory.mktemp("log"), entries, (*OLD_SIZES, SIZE), make_signer())


@pytest.fixture(scope="module")
def accused(log: WrittenLog) -> Accused:
    """The log before its judges."""
    return Accused(
        place=str(log.folder),
        checkpoint=log.folder / "checkpoint",
        log_keys=log.signer.verifier_keys,
        witness_keys=[key for witness in log.witnesses for key in witness.verifier_keys],
        older=log.folder / "checkpoint-65537",
    )


def test_every_judge_accepts_the_log(accused: Accused) -> None:
    """Note, cosignatures, ML-DSA-44 lines, 4,125 leaves by one judge and all by another."""
    verdicts = judge_log(accused)
    assert refusing(verdicts) == {}
    assert verdicts.keys() == ALL_JUDGES
    assert verdicts["sumdb"].report == {"size": SIZE, "leaves": 4125, "consistent": 1}
    assert verdicts["aics audit"].report == {"size": SIZE, "tiles": 277, "bundles": 274}
    assert verdicts["aics checkpoint"].report["cosignatures"] == 2
    assert verdicts["crypto/mldsa"].report == dict.fromkeys(
        ("log.example/judged", "witness-1.example", "witness-2.example"), AT_S
    )


def test_every_judge_accepts_the_log_over_http(log: WrittenLog, accused: Accused) -> None:
    """The same judges read a server's address; here a plain one for static files."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(log.folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/"
        verdicts = judge_log(dataclasses.replace(accused, place=address, every=255))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert refusing(verdicts) == {}
    assert verdicts["aics audit"].report == {"size": SIZE, "tiles": 277, "bundles": 274}


@pytest.mark.parametrize("old_size", OLD_SIZES)
def test_every_older_checkpoint_is_consistent(accused: Accused, old_size: int) -> None:
    """One leaf, a tile but one, a tile, 256 tiles, and one more."""
    older = Path(accused.place) / f"checkpoint-{old_size}"
    accused = dataclasses.replace(accused, older=older, every=SIZE)
    assert ask_sumdb(accused).report["consistent"] == 1
    verdict = ask_aics(accused, "verify-consistency", "--old-checkpoint", str(older))
    assert verdict.accepted, verdict.words


def flip(data: bytes, position: int) -> bytes:
    """The bytes with one bit flipped."""
    damaged = bytearray(data)
    damaged[position] ^= 0x10
    return bytes(damaged)


def flip_line(number: int, position: int) -> Callable[[bytes], bytes]:
    """Flip a bit in the decoded base64 at the end of a line of a checkpoint."""

    def damage(note: bytes) -> bytes:
        lines = note.split(b"\n")
        head, space, encoded = lines[number].rpartition(b" ")
        lines[number] = head + space + b64encode(flip(b64decode(encoded), position))
        return b"\n".join(lines)

    return damage


def flip_at(position: int) -> Callable[[bytes], bytes]:
    """Flip a bit of a tile or bundle."""
    return lambda data: flip(data, position)


@contextmanager
def damaged(path: Path, damage: Callable[[bytes], bytes]) -> Generator[None]:
    """Damage a file for as long as the block lasts."""
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    try:
        yield
    finally:
        path.write_bytes(whole)


AICS = {"aics checkpoint", "aics inclusion", "aics consistency"}
READERS = ALL_JUDGES - {"crypto/mldsa"}
BUT_CHECKPOINT = READERS - {"aics checkpoint"}
LEAF_READERS = {"sumdb", "aics inclusion", "aics audit"}
BUT_AUDIT = ALL_JUDGES - {"aics audit"}

DAMAGES = {
    # lines of the checkpoint: 0 origin, 1 size, 2 root, 4 log, 5 log (ML-DSA), 6–9 witnesses
    "root": ("checkpoint", flip_line(2, 31), ALL_JUDGES),
    "log's Ed25519": ("checkpoint", flip_line(4, 60), {"sumdb"} | AICS),
    "log's ML-DSA-44": ("checkpoint", flip_line(5, 2000), {"crypto/mldsa"}),
    "log's ML-DSA-44 time": ("checkpoint", flip_line(5, 11), {"crypto/mldsa"}),
    "witness's Ed25519": ("checkpoint", flip_line(6, 60), AICS),
    "witness's Ed25519 time": ("checkpoint", flip_line(8, 11), AICS),
    "witness's ML-DSA-44": ("checkpoint", flip_line(7, 1000), {"crypto/mldsa"}),
    "witness's ML-DSA-44 time": ("checkpoint", flip_line(9, 4), {"crypto/mldsa"}),
    "size": ("checkpoint", lambda note: note.replace(b"\n70107\n", b"\n70108\n"), ALL_JUDGES),
    "origin": ("checkpoint", lambda note: note.replace(b"d\n", b"s\n", 1), BUT_AUDIT),
    "first tile": ("tile/0/000", flip_at(5), LEAF_READERS),
    "a tile in the middle": ("tile/0/137", flip_at(3 * 32), BUT_CHECKPOINT),
    "tile one level up": ("tile/1/000", flip_at(7 * 32), BUT_CHECKPOINT),
    "partial tile": ("tile/0/273.p/219", flip_at(-1), READERS),
    "partial tile above": ("tile/1/001.p/17", flip_at(0), READERS),
    "highest tile": ("tile/2/000.p/1", flip_at(31), READERS),
    "first entries": ("tile/entries/000", flip_at(4), LEAF_READERS),
    "last entries": ("tile/entries/273.p/219", flip_at(-1), LEAF_READERS),
    "length of an entry": ("tile/entries/100", flip_at(1), {"sumdb", "aics audit"}),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_flipped_bit_is_refused(log: WrittenLog, accused: Accused, name: str) -> None:
    """Each judge that reads the damaged thing refuses, and no other does."""
    path, damage, expected = DAMAGES[name]
    with damaged(log.folder / path, damage):
        verdicts = judge_log(accused)
    assert refusing(verdicts).keys() == expected


def test_another_history_is_not_consistent(log: WrittenLog, tmp_path: Path) -> None:
    """Each of two histories under the same keys is well formed; together they are found out."""
    entries = [*log.entries[:300]]
    entries[3] = b"replaced"
    forged = write_log(tmp_path, entries, (300,), log.signer)
    alone = Accused(
        place=str(tmp_path),
        checkpoint=tmp_path / "checkpoint",
        log_keys=log.signer.verifier_keys,
        witness_keys=[key for witness in forged.witnesses for key in witness.verifier_keys],
        every=1,
    )
    assert refusing(judge_log(alone)) == {}
    together = dataclasses.replace(alone, older=log.folder / "checkpoint-256")
    assert refusing(judge_log(together)).keys() == {"sumdb", "aics consistency"}


def test_a_stranger_and_a_missing_witness_are_refused(log: WrittenLog, accused: Accused) -> None:
    """Other keys of the log's name verify nothing, and a quorum of three is not met by two."""
    stranger = dataclasses.replace(accused, log_keys=make_signer().verifier_keys)
    assert refusing(judge_log(stranger)).keys() == ALL_JUDGES - {"aics audit"}
    (third, _) = log.witnesses[0].verifier_keys
    third = dataclasses.replace(third, name="witness-3.example")
    more = dataclasses.replace(accused, witness_keys=[*accused.witness_keys, third])
    assert not ask_aics(more, "verify-checkpoint").accepted
    (_, fourth) = log.witnesses[0].verifier_keys
    fourth = dataclasses.replace(fourth, name="witness-3.example")
    assert not ask_mldsa(dataclasses.replace(accused, witness_keys=[fourth])).accepted


def proof_file(tmp_path: Path, hashes: list[bytes]) -> str:
    """Hashes as aics-tlog reads them, one a line."""
    path = tmp_path / "hashes"
    path.write_text("".join(b64encode(value).decode() + "\n" for value in hashes))
    return str(path)


def aics(*arguments: str) -> bool:
    """Whether aics-tlog accepts a proof given by hand."""
    done = subprocess.run(
        [str(require_tool("aics-tlog")), *arguments], capture_output=True, check=False, timeout=60
    )
    return done.returncode == 0


@pytest.mark.parametrize("index", [0, 255, 256, 65_535, 65_536, 69_999, SIZE - 1])
def test_our_inclusion_proofs_convince_both_judges(
    log: WrittenLog, tmp_path: Path, index: int
) -> None:
    """As a `.tlog-proof` for sumdb, hash by hash for aics-tlog; not for the leaf's neighbour."""
    hashes = inclusion_proof(index, SIZE, log.node)
    note = (log.folder / "checkpoint").read_bytes()
    file = tmp_path / "entry.tlog-proof"
    file.write_bytes(TlogProof(index=index, hashes=tuple(hashes), checkpoint=note).encode())
    vkey = log.signer.verifier_keys[0].encode()
    assert ask_sumdb_about_proof(file, log.entries[index].decode(), vkey).accepted
    assert not ask_sumdb_about_proof(file, log.entries[index - 1].decode(), vkey).accepted
    root = b64encode(tree_root(SIZE, log.node)).decode()
    for place, accepted in ((index, True), ((index + 1) % SIZE, False)):
        leaf = log.node(0, place).hex()
        options = ("--leaf-hash", leaf, "--index", str(index), "--size", str(SIZE), "--root", root)
        proof = proof_file(tmp_path, hashes)
        assert aics("verify-inclusion", *options, "--proof", proof) == accepted


@pytest.mark.parametrize("old_size", [1, 3, 256, 257, 65_535, 65_536, SIZE - 1, SIZE])
def test_our_consistency_proofs_convince_a_judge(
    log: WrittenLog, tmp_path: Path, old_size: int
) -> None:
    """Hash by hash for aics-tlog; not for the root of another size."""
    proof = proof_file(tmp_path, consistency_proof(old_size, SIZE, log.node))
    new_root = b64encode(tree_root(SIZE, log.node)).decode()
    for size_of_root, accepted in ((old_size, True), (old_size - 1, False)):
        old_root = b64encode(tree_root(size_of_root, log.node)).decode()
        sizes = ("--old-size", str(old_size), "--new-size", str(SIZE))
        roots = ("--old-root", old_root, "--new-root", new_root)
        assert aics("verify-consistency", *sizes, *roots, "--proof", proof) == accepted


VECTORS = ROOT / "tests" / "vectors" / "tlog"
UNSIGNED_BY_LOG = {"size-edited", "root-bit", "log-bit", "log-line-missing", "another-log"}


def test_a_judge_agrees_with_our_vectors() -> None:
    """The vectors that are about leaf, path and the log's own signature, put to sumdb."""
    judged: dict[str, Verdict] = {}
    policy = (VECTORS / "none.policy").read_text()
    vkey = policy.split()[1]
    expected = json.loads((VECTORS / "expected.json").read_text())["proofs"]
    for name, vector in expected.items():
        path_matters = vector["outcome"] in {"pass", "proof_invalid"}
        if path_matters or name.removesuffix(".tlog-proof") in UNSIGNED_BY_LOG:
            judged[name] = ask_sumdb_about_proof(VECTORS / name, vector["entry"], vkey)
    accepted = {name: verdict.accepted for name, verdict in judged.items()}
    assert accepted == {name: expected[name]["outcome"] == "pass" for name in judged}
    assert len(judged) == 20
