"""What a command cannot write is told by its status, and never by the one that means a no."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import cli
from service.cli import run
from tests.tools import ROOT

VECTORS = ROOT / "tests" / "vectors" / "packages"
KEYS = f"--known-keys {VECTORS / 'known-keys.json'}"
AT = json.loads((VECTORS / "expected.json").read_text())["at"]
VERIFY = f"verify {VECTORS / 'good.zip'} {KEYS} --at {AT}"
NOWHERE = ["--config", "/nonexistent/client.json", "--json"]


def called(
    command: str, redirect: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell, its output going where a redirection says."""
    return subprocess.run(
        ["bash", "-c", f'"$0" -m service.cli {command} {redirect}', sys.executable],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-", "| true; exit ${PIPESTATUS[0]}"])
@pytest.mark.parametrize("command", [VERIFY, f"{VERIFY} --json", "version", "--help"])
def test_an_unwritten_result_is_74(command: str, redirect: str) -> None:
    """A full disk, a closed stream, a reader who has gone: one sentence, and no verdict."""
    ended = called(command, redirect)
    assert (ended.returncode, ended.stdout) == (74, "")
    assert ended.stderr.startswith("fengni: The result could not be written: ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("package", "status"), [("good.zip", 0), ("original-replaced.zip", 1), ("absent.zip", 64)]
)
@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-"])
def test_an_unwritten_remark_leaves_the_status_alone(
    package: str, status: int, redirect: str
) -> None:
    """Standard error is for people; the verdict does not hang on it."""
    assert called(VERIFY.replace("good.zip", package), redirect).returncode == status


def test_characters_that_the_terminal_lacks_are_no_accident() -> None:
    """A terminal without these signs gets others, and the same verdict."""
    ended = called(VERIFY, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "PASS" in ended.stdout


def test_a_file_that_cannot_be_written_is_74(tmp_path: Path) -> None:
    """Where a command makes files, a file system limit is told with the file's name."""
    limited = 'ulimit -f 0; exec "$0" -m service.cli init "$1" --organ c --origin example.org/c'
    ended = subprocess.run(
        ["bash", "-c", limited, sys.executable, str(tmp_path / "deployment")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, "Traceback" in ended.stderr) == (74, False)


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["export", "ab" * 32, "--out", "x.zip", *NOWHERE], 64, "misused"),
        (["upload", "x.jpg", *NOWHERE], 64, "misused"),
        (["verify", "absent.zip", *NOWHERE], 64, "misused"),
        (["verify", "--json"], 64, "misused"),
        (["doctor", *NOWHERE], 64, "misused"),
        (["log", "fsck", "/nonexistent", "--json"], 64, "settings_invalid"),
        (["tamper", "row", *NOWHERE], 64, "misused"),
        (["tamper", "nothing", "--json"], 64, "misused"),
    ],
)
def test_a_failure_is_json_where_json_is_wanted(
    arguments: list[str],
    status: int,
    code: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One object with code and sentence on standard output; the sentence for people as ever."""
    monkeypatch.delenv("FENGNI_FOLDER", raising=False)
    ended = run(arguments)
    told = capsys.readouterr()
    error = json.loads(told.out)["error"]
    assert (ended, error["code"], set(error)) == (status, code, {"code", "detail"})
    assert " ".join(error["detail"].split()) in " ".join(told.err.split())


def test_a_defect_is_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An accident is no verdict. No known input causes one, so the test brings its own."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(cli, "app", fail)
    ended = run(["version", "--json"])
    told = capsys.readouterr()
    assert (ended, json.loads(told.out)["error"]["code"]) == (70, "defect")
    assert "out of order" in told.err
