"""`python -m evidence` as an outside expert runs it: a bare environment, offline, four exits."""

import json
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from evidence.keys import P256Signer
from evidence.known_keys import KnownKeys, write_known_keys
from evidence.schema import format_time
from tests.evidence.package_maker import AT, PHOTO, pinned, stamped, world_with_photo, written
from tests.evidence.timestamp_maker import Authority
from tests.tools import ROOT, VERIFIER_PYTHON, require_path

NOW = format_time(AT + timedelta(days=1))
OFFLINE = """
import runpy, sys

def refuse(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn")):
        raise SystemExit(f"the verifier reached for {event}")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise SystemExit(f"the verifier would write {arguments[0]}")

sys.addaudithook(refuse)
sys.dont_write_bytecode = True
runpy.run_module("evidence", run_name="__main__", alter_sys=True)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verifier where only the base install's dependencies are, without a way out."""
    python = require_path(VERIFIER_PYTHON, "the bare verifier's environment")
    command = [str(python), "-I", "-c", f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n{OFFLINE}"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


class Handed:
    """A package and the known keys, as files that somebody was handed."""

    def __init__(self, folder: Path) -> None:
        """Make both from a small world whose witnesses and authority are pinned."""
        world, capture = world_with_photo()
        authority = Authority.new()
        self.package = folder / "package.zip"
        self.package.write_bytes(written(stamped(world, capture, authority)).getvalue())
        self.known = folder / "known-keys.json"
        self.known.write_bytes(self.keys(world.known(tsa_roots=(pinned(authority),)), world.root))

    @staticmethod
    def keys(known: KnownKeys, root: P256Signer) -> bytes:
        """The trust file's bytes."""
        return write_known_keys(known, [root])

    def verify(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Verify the package as of the tests' time."""
        known = str(self.known)
        return run("verify", str(self.package), "--known-keys", known, "--at", NOW, *more)


@pytest.fixture
def handed(tmp_path: Path) -> Handed:
    """A fresh package with its trust file."""
    return Handed(tmp_path)


def test_a_whole_package_exits_with_0(handed: Handed) -> None:
    """A bare environment suffices to accept a whole package, and it says what is not proven."""
    done = handed.verify()
    assert (done.returncode, done.stderr) == (0, "")
    assert "Not proven: that the scene was real" in done.stdout


def test_one_flipped_bit_exits_with_1(handed: Handed) -> None:
    """One bit of the photo changed: the check that fails is named."""
    data = bytearray(handed.package.read_bytes())
    data[data.index(PHOTO) + 5] ^= 1
    handed.package.write_bytes(data)
    done = handed.verify("--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    changed = {check["name"] for check in report["checks"] if check["outcome"] == "content_changed"}
    assert "content.digest" in changed


def test_a_missing_witness_exits_with_2(tmp_path: Path) -> None:
    """Nothing was changed, but what is needed for an answer is not there."""
    world, capture = world_with_photo()
    handed = Handed(tmp_path)
    handed.package.write_bytes(written(world.contents([capture], cosigned=False)).getvalue())
    handed.known.write_bytes(Handed.keys(world.known(), world.root))
    assert handed.verify().returncode == 2


def test_expired_known_keys_exit_with_2(tmp_path: Path) -> None:
    """A trust file that has expired decides nothing."""
    world, capture = world_with_photo()
    handed = Handed(tmp_path)
    handed.package.write_bytes(written(world.contents([capture])).getvalue())
    expired = replace(world.known(), expires=AT + timedelta(hours=1))
    handed.known.write_bytes(Handed.keys(expired, world.root))
    assert handed.verify().returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("verify",),
        ("verify", "no-such-file.zip", "--known-keys", "no-such-file.json"),
        ("approve", "package.zip"),
    ],
    ids=["nothing", "no-package", "no-file", "no-such-command"],
)
def test_wrong_usage_exits_with_64(arguments: tuple[str, ...]) -> None:
    """What was not asked properly is told apart from what was answered."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert "usage:" in done.stderr
