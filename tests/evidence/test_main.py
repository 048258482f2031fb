"""The command line: one plain sentence a check, and exit statuses that scripts can trust."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evidence.__main__ import main, render
from evidence.schema import parse_time
from evidence.verify import verify_package
from tests.evidence.package_maker import world_with_photo, written
from tests.tools import ROOT

VECTORS = ROOT / "tests" / "vectors" / "packages"
AT = json.loads((VECTORS / "expected.json").read_text())["at"]


def run(package: str, keys: str = "known-keys.json", *more: str) -> int:
    """Exit status for a vector."""
    arguments = ["verify", str(VECTORS / package), "--known-keys", str(VECTORS / keys)]
    return main([*arguments, "--at", AT, *more])


@pytest.mark.parametrize(
    ("package", "keys", "status", "words"),
    [
        ("good.zip", "known-keys.json", 0, "PASS"),
        ("opening-without-checkpoint.zip", "known-keys.json", 0, "PASS"),
        ("original-replaced.zip", "known-keys.json", 1, "FAIL"),
        ("good.zip", "expired-known-keys.json", 2, "CANNOT DECIDE"),
    ],
)
def test_the_exit_status_tells_the_verdict(
    package: str, keys: str, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 pass, 1 content changed, 2 cannot decide; and both honest sentences are printed."""
    assert status == run(package, keys)
    said = capsys.readouterr().out
    assert words in said
    assert "Not proven: that the scene was real" in said


def test_json_is_machine_readable(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints the whole report."""
    assert run("good.zip", "known-keys.json", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["outcome"] == "pass"
    assert [len(capture["ladder"]) for capture in report["captures"]] == [8, 8]


def test_json_names_the_code_and_the_subject_of_what_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A script need not read the sentences: the error's stable code stands beside them."""
    assert run("original-replaced.zip", "known-keys.json", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    codes = [check["code"] for check in report["checks"] if check["outcome"] == "content_changed"]
    assert codes == ["digest_mismatch"]


def test_a_time_that_is_not_proven_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without witnesses and tokens that are pinned there is no independent time to name."""
    world, capture = world_with_photo()
    report = verify_package(
        written(world.contents([capture], cosigned=False)), world.known(), parse_time(AT)
    )
    text = render(report)
    assert f"Capture {capture.id}" in text
    assert "independent time" not in text
    assert run("good.zip") == 0
    assert "first independent time" in capsys.readouterr().out


def test_the_module_runs_as_a_command() -> None:
    """`python -m evidence` hands its verdict on as the exit status."""
    command = [sys.executable, "-m", "evidence", "verify", str(VECTORS / "original-replaced.zip")]
    keys = ["--known-keys", str(VECTORS / "known-keys.json"), "--at", AT]
    done = subprocess.run(
        [*command, *keys], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["verify"],
        ["verify", "absent.zip", "--known-keys", str(VECTORS / "known-keys.json")],
        ["verify", str(VECTORS / "good.zip"), "--known-keys", str(VECTORS / "good.zip")],
        ["verify", str(VECTORS / "good.zip"), "--known-keys", "absent.json"],
    ],
)
def test_wrong_usage_is_64(arguments: list[str], tmp_path: Path) -> None:
    """A missing file or a trust file that is none is a mistake of the caller."""
    assert tmp_path.exists()
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 64
