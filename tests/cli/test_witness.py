"""`fengni witness`: made before it knows a log, let in, served, and asked what it saw."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.note import parse_vkey
from service.cli import NO, OK, USAGE, run
from service.transparency.witness import open_witness
from tests.tools import ROOT, VERIFIER_PYTHON, require_path
from tests.transparency.small_log import HASH, LOG, NAME, ORIGIN, Clock, SmallLog, forked


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A witness that the command made and that knows no log."""
    assert run(["witness", "init", str(tmp_path / "west"), "--name", NAME]) == OK
    vkeys = capsys.readouterr().out.split()
    assert [parse_vkey(vkey).name for vkey in vkeys] == [NAME, NAME]
    return tmp_path / "west"


def let_in(folder: Path, log: SmallLog = LOG) -> int:
    """Let it cosign a log."""
    origin = log.signer.origin
    return run(["witness", "add-log", origin, *log.vkeys, "--folder", str(folder)])


@contextmanager
def served(folder: Path, python: str = sys.executable, *command: str) -> Generator[str]:
    """Serve it as a process of its own; yields the address."""
    command = command or ("-m", "service.cli", "witness", "serve", "--folder", str(folder))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FENGNI_")}
    process = subprocess.Popen(
        [python, *command, "--port", "0"],
        cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().decode().rsplit("ready on ", 1)[1].strip()
    finally:
        process.kill()
        process.communicate()


def test_a_log_is_let_in_while_it_serves(folder: Path) -> None:
    """Unknown is 404; from the command on it is cosigned, without another start."""
    with served(folder) as url, httpx.Client(base_url=url, trust_env=False) as http:
        assert http.post("add-checkpoint", content=LOG.body(0, 5)).status_code == 404
        assert let_in(folder) == OK
        assert http.post("add-checkpoint", content=LOG.body(0, 5)).status_code == 200
        seen = http.get(f"{HASH}/checkpoint").content
    assert open_checkpoint(seen, LOG.signer.verifier_keys).checkpoint.size == 5


def test_letting_in_twice_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys that are known already are counted as such."""
    assert let_in(folder) == OK
    before = (folder / "witness.json").read_bytes()
    assert let_in(folder) == OK
    assert (folder / "witness.json").read_bytes() == before
    assert capsys.readouterr().out.splitlines()[-1] == f"0 of 2 keys of {ORIGIN} are new."


def test_a_log_s_further_key_counts_from_then_on(folder: Path) -> None:
    """A log that changes its keys keeps its origin, and what was cosigned before still binds."""
    assert let_in(folder) == OK
    witness = open_witness(folder, Clock())
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
    rotated = SmallLog(70)
    assert witness.add_checkpoint(rotated.body(5, 7)).status == 403
    assert let_in(folder, rotated) == OK
    assert witness.add_checkpoint(rotated.body(5, 7)).status == 200
    assert witness.add_checkpoint(rotated.body(0, 7)).status == 409


@pytest.mark.parametrize(
    "words",
    [
        ["add-log", "other.example/log", *LOG.vkeys],
        ["add-log", ORIGIN, "no key"],
        ["add-log", ORIGIN],
        ["init", ".", "--name", "with space"],
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of another origin, no keys, no name: nothing is changed, and the status is 64."""
    monkeypatch.chdir(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(["witness", *words]) == USAGE
    assert before.items() <= {path.name: path.read_bytes() for path in folder.iterdir()}.items()
    assert json.loads((folder / "witness.json").read_text())["logs"] == []


def test_a_folder_with_a_witness_or_without_one_is_named(folder: Path, tmp_path: Path) -> None:
    """A second one is not made over it, and where there is none nothing is served or let in."""
    assert run(["witness", "init", str(folder), "--name", NAME]) == USAGE
    for words in (["serve"], ["status"], ["add-log", ORIGIN, *LOG.vkeys]):
        assert run(["witness", *words, "--folder", str(tmp_path / "nothing")]) == USAGE
    assert not (tmp_path / "nothing").exists()


def test_what_contradicts_is_kept_and_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two signed trees of one size: the second is refused with 422 and kept as a proof."""
    assert let_in(folder) == OK
    witness = open_witness(folder, Clock())
    assert witness.add_checkpoint(LOG.body(0, 9)).status == 200
    assert run(["witness", "status", "--folder", str(folder)]) == OK
    other = forked(9)
    for _ in range(2):
        assert witness.add_checkpoint(other.body(9, 9)).status == 422
    capsys.readouterr()
    assert run(["witness", "status", "--folder", str(folder), "--json"]) == NO
    [log] = json.loads(capsys.readouterr().out)["logs"]
    [proof] = log["contradictions"]
    keys = LOG.signer.verifier_keys
    trees = [open_checkpoint(proof[name].encode(), keys).checkpoint for name in ("refused", "held")]
    assert [tree.size for tree in trees] == [9, 9]
    assert {tree.root for tree in trees} == {LOG.checkpoint(9).root, other.checkpoint(9).root}
    assert (log["origin"], log["size"]) == (ORIGIN, 9)


def test_contradictions_are_kept_up_to_a_bound(folder: Path) -> None:
    """Whoever has the log's key cannot fill the witness's disk with them."""
    assert let_in(folder) == OK
    witness = open_witness(folder, Clock())
    assert witness.add_checkpoint(LOG.body(0, 70)).status == 200
    for number in range(70):
        other = SmallLog(70, flavour=b"other %d" % number)
        other.signer = LOG.signer
        assert witness.add_checkpoint(other.body(70, 70)).status == 422
    found = json.loads(run_json(folder))
    assert len(found["logs"][0]["contradictions"]) == 64


def run_json(folder: Path) -> str:
    """What `fengni witness status --json` prints."""
    command = [sys.executable, "-m", "service.cli", "witness", "status", "--json"]
    ended = subprocess.run(
        [*command, "--folder", str(folder)], cwd=ROOT, capture_output=True, check=False, text=True
    )
    return ended.stdout


def test_settings_that_cannot_be_read_are_503(folder: Path) -> None:
    """While somebody edits which logs it knows, it cosigns nothing and goes on afterwards."""
    assert let_in(folder) == OK
    witness = open_witness(folder, Clock())
    whole = (folder / "witness.json").read_bytes()
    (folder / "witness.json").write_bytes(whole[:20])
    assert witness.answer("POST", "/add-checkpoint", LOG.body(0, 5)).status == 503
    (folder / "witness.json").write_bytes(whole)
    assert witness.answer("POST", "/add-checkpoint", LOG.body(0, 5)).status == 200


def test_it_runs_with_the_base_install_alone(folder: Path) -> None:
    """The verifier's bare environment serves it: no server, store or framework is imported."""
    assert let_in(folder) == OK
    python = str(require_path(VERIFIER_PYTHON, "the bare verifier's environment"))
    bare = ("-m", "service.transparency.witness", str(folder))
    with served(folder, python, *bare) as url, httpx.Client(base_url=url, trust_env=False) as http:
        assert http.post("add-checkpoint", content=LOG.body(0, 5)).status_code == 200


def test_it_imports_no_store_of_the_server() -> None:
    """What a witness loads is `evidence`, its own two modules, and files of its own."""
    program = (
        "import sys, service.transparency.witness;"
        "print(*sorted(n for n in sys.modules if n.split('.')[0] in"
        " {'storage', 'service', 'sqlalchemy', 'litestar', 'msgspec', 'httpx'}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True
    )
    assert ended.stdout.split() == [
        "service",
        "service.private_files",
        "service.transparency",
        "service.transparency.cosigning",
        "service.transparency.loopback",
        "service.transparency.witness",
    ]


def test_a_killed_letting_in_leaves_a_whole_file(folder: Path) -> None:
    """Killed at the replacement: the witness knows the logs of before or of after."""
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from service.transparency.witness import add_log\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "add_log(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(folder), ORIGIN, *LOG.vkeys], cwd=ROOT, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert open_witness(folder, Clock()).add_checkpoint(LOG.body(0, 5)).status == 404
    assert let_in(folder) == OK
    assert open_witness(folder, Clock()).add_checkpoint(LOG.body(0, 5)).status == 200
