"""The command line: one plain sentence a check, and exit statuses that scripts can trust."""

import json
from pathlib import Path

import pytest

from evidence.__main__ import main
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
