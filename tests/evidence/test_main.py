"""The command line: one plain sentence a check, and exit statuses that scripts can trust."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from evidence import __main__ as command
from evidence.__main__ import main, render
from evidence.known_keys import write_known_keys
from evidence.schema import parse_time
from evidence.verify import verify_package
from tests.evidence import timestamp_maker
from tests.evidence.package_maker import AT as MADE_AT
from tests.evidence.package_maker import pinned, stamped, world_with_photo, written
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


def called(
    package: Path, keys: Path, redirect: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a shell, its output going where a redirection says."""
    return subprocess.run(
        ["bash", "-c", f'"$0" -m evidence verify "$1" --known-keys "$2" --at "$3" {redirect}',
         sys.executable, str(package), str(keys), AT],
        cwd=ROOT, capture_output=True, check=False, env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_name_in_another_script_is_printed_everywhere(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority with a Chinese name on a terminal without Chinese is no changed content."""
    plain = x509.NameAttribute
    monkeypatch.setattr(
        timestamp_maker.x509, "NameAttribute", lambda oid, value: plain(oid, f"{value} 授时中心")
    )
    world, capture = world_with_photo()
    authority = timestamp_maker.Authority.new()
    package, keys = tmp_path / "package.zip", tmp_path / "known-keys.json"
    package.write_bytes(written(stamped(world, capture, authority)).getvalue())
    known = world.known(tsa_roots=(pinned(authority),), expires=MADE_AT + timedelta(days=4000))
    keys.write_bytes(write_known_keys(known, [world.root]))

    ended = called(package, keys, PYTHONIOENCODING=encoding)

    assert (ended.returncode, b"\\u6388\\u65f6" in ended.stdout) == (0, True)


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-", "| true; exit ${PIPESTATUS[0]}"])
def test_an_unwritten_report_is_74(redirect: str) -> None:
    """Whoever could not read the report is not told that it passed, nor that it failed."""
    ended = called(VECTORS / "good.zip", VECTORS / "known-keys.json", redirect)
    expected = (74, b"")

    actual = (ended.returncode, ended.stdout)

    assert expected == actual


@pytest.mark.parametrize(
    ("package", "redirect"), [("/dev/stdin", "< <(cat /dev/null)"), ("/proc/self/mem", "")]
)
def test_a_package_that_cannot_be_read_is_64(package: str, redirect: str) -> None:
    """A pipe, and a file whose bytes cannot be had, are mistakes of the caller."""
    ended = called(Path(package), VECTORS / "known-keys.json", redirect)

    assert (ended.returncode, b"cannot read" in ended.stderr) == (64, True)
    assert b"None" not in ended.stderr


def test_a_defect_of_the_verifier_is_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An accident is not a verdict. No known input causes one, so the test brings its own."""

    def fail(*_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(command, "verify_package", fail)

    with pytest.raises(SystemExit) as caught:
        run("good.zip")

    assert (caught.value.code, "out of order" in capsys.readouterr().err) == (70, True)
