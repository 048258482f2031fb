"""The README's own walk: a photo is sealed, exported, checked by a stranger, and forged."""

import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.log.heads import FileHead
from tests.e2e.demo_process import DemoProcess, Ran
from tests.sampling import sampled
from tests.tools import ROOT, VERIFIER_PYTHON, require_path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@dataclass(frozen=True)
class Sealed:
    """One photo that was uploaded, and its package."""

    id: str
    photo: Path
    package: Path


@pytest.fixture(scope="module")
def sealed(demo: DemoProcess) -> Sealed:
    """A rendered photo of the demo's own under another name, as far as it can come."""
    photo = demo.place / "pavement.jpg"
    shutil.copy(demo.folder / "photos" / "stall-on-pavement.jpg", photo)
    uploaded = demo.run("upload", photo, "--json", "--wait", "time_stamped", "--task", "walk-1")
    assert uploaded.status == 0, uploaded.err
    [capture] = uploaded.json()["captures"]
    assert capture["stage"] == "time_stamped"
    package = demo.place / "package.zip"
    exported = demo.run("export", capture["id"][:12], "--out", package)
    assert exported.status == 0, exported.err
    return Sealed(id=capture["id"], photo=photo, package=package)


def stranger(demo: DemoProcess, package: Path) -> Ran:
    """Somebody with the base install alone checks a package."""
    python = require_path(VERIFIER_PYTHON, "the bare verifier's environment")
    known = demo.server / "known-keys.json"
    command = [python, "-m", "evidence", "verify", package, "--known-keys", known, "--json"]
    return Ran(
        subprocess.run(
            [str(word) for word in command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    )


def test_the_demo_hands_in_photos_of_its_own(demo: DemoProcess) -> None:
    """Three rendered photos are there from the start, in one closed session."""
    photos = sorted(path.name for path in (demo.folder / "photos").glob("*.jpg"))
    assert len(photos) == 3
    for photo in photos:
        assert photo in demo.output()


def test_a_stranger_accepts_the_package(demo: DemoProcess, sealed: Sealed) -> None:
    """A bare environment passes the package on every rung that it can have."""
    checked = stranger(demo, sealed.package)
    report = checked.json()
    [capture] = report["captures"]
    rungs = {rung["rung"]: rung["outcome"] for rung in capture["ladder"]}
    assert checked.status == 0
    assert report["outcome"] == "pass"
    assert {name for name, outcome in rungs.items() if outcome == "pass"} == {
        "claimed",
        "signed",
        "received",
        "logged",
        "witnessed",
        "time_stamped",
        "stored",
    }


def test_the_command_line_agrees_with_the_stranger(demo: DemoProcess, sealed: Sealed) -> None:
    """`fengni verify` is the same verifier: the same answer to every check."""
    ours = demo.run("verify", sealed.package, "--json")
    theirs = stranger(demo, sealed.package)
    assert ours.status == 0
    assert ours.json()["checks"] == theirs.json()["checks"]


def test_a_session_of_the_demo_is_complete(demo: DemoProcess) -> None:
    """The demo's own photos were announced in a session that was opened before them."""
    again = demo.run("log", "fsck", "--json")
    assert again.json()["logs"][0]["findings"] == []
    ids = demo_captures(demo)
    package = demo.place / "session.zip"
    assert demo.run("export", *ids, "--out", package).status == 0
    checks = {check["name"]: check["outcome"] for check in stranger(demo, package).json()["checks"]}
    assert checks["session.completeness"] == "pass"


def demo_captures(demo: DemoProcess) -> list[str]:
    """The captures of the demo's own session, by the ids that it showed at its start."""
    return re.findall(r"^\S+\.jpg +([0-9a-f]{16}) ", demo.output(), re.MULTILINE)


def test_the_same_upload_again_changes_nothing(demo: DemoProcess, sealed: Sealed) -> None:
    """The same wish finds the same statement and adds no leaf."""
    size = demo.run("log", "fsck", "--json").json()["logs"][0]["size"]
    again = demo.run("upload", sealed.photo, "--json", "--task", "walk-1")
    assert again.ids() == [sealed.id]
    assert demo.run("log", "fsck", "--json").json()["logs"][0]["size"] == size


def test_doctor_finds_nothing_wrong(demo: DemoProcess, sealed: Sealed) -> None:
    """A running demo passes every check, and the notes say what it is worth."""
    examined = demo.run("doctor", "--json")
    answers = {check["name"]: check["answer"] for check in examined.json()["checks"]}
    assert examined.status == 0, examined.out
    assert set(answers.values()) == {"pass", "note"}
    assert answers["settings.development"] == "note"
    assert sealed.id


@sampled(
    "target, command, word",
    [
        ("object", "doctor", "objects.bytes"),
        ("row", "log fsck", "leaf_differs"),
        ("tile", "log fsck", "tile_differs"),
        ("tile", "doctor", "log.integrity_alarm"),
        ("token", "doctor", "time.tokens"),
        ("statement", "log fsck", "text_differs"),
        ("checkpoint", "log fsck", "checkpoint_invalid"),
        ("cosignature", "log fsck", "cosignature_differs"),
        ("cosignature", "doctor", "witness.cosignatures"),
        ("text", "log fsck", "text_unreadable"),
    ],
    count=4,
)
def test_the_named_command_notices_a_flipped_byte(
    demo: DemoProcess, sealed: Sealed, target: str, command: str, word: str
) -> None:
    """After one flipped byte the command that `tamper` names fails and names the broken link."""
    settle(demo)
    flipped = demo.run("tamper", target, sealed.id, "--json")
    assert flipped.status == 0, flipped.err
    try:
        noticed = demo.run(*command.split(), "--json")
        assert f"fengni {command}" in flipped.json()["noticed_by"]
        assert noticed.status == 1
        assert word in noticed.out
    finally:
        assert demo.run("tamper", target, sealed.id).status == 0


@pytest.mark.parametrize("command", ["doctor", "log fsck"])
def test_flipped_back_all_is_well(demo: DemoProcess, sealed: Sealed, command: str) -> None:
    """Each second `tamper` gave back the very byte: neither command finds anything now."""
    assert sealed.id
    assert demo.run(*command.split(), "--json").status == 0


def test_a_package_of_a_changed_row_is_refused(
    demo: DemoProcess, sealed: Sealed, tmp_path: Path
) -> None:
    """What is exported after a record was changed does not pass."""
    settle(demo)
    assert demo.run("tamper", "row", sealed.id).status == 0
    try:
        package = tmp_path / "package.zip"
        exported = demo.run("export", sealed.id, "--out", package)
        assert exported.status == 0, exported.err
        checked = stranger(demo, package)
        failed = [c["name"] for c in checked.json()["checks"] if c["outcome"] == "content_changed"]
        assert checked.status == 1
        assert "statement.signature" in failed
    finally:
        assert demo.run("tamper", "row", sealed.id).status == 0


def test_a_flipped_byte_in_the_package_is_found(
    demo: DemoProcess, sealed: Sealed, tmp_path: Path
) -> None:
    """One bit of the original, and the verifier names the content's digest."""
    package = tmp_path / "package.zip"
    shutil.copy(sealed.package, package)
    assert demo.run("tamper", "package", package).status == 0
    checked = stranger(demo, package)
    failed = [c["name"] for c in checked.json()["checks"] if c["outcome"] == "content_changed"]
    assert checked.status == 1
    assert "content.digest" in failed
    assert demo.run("verify", package).status == 1
    assert demo.run("tamper", "package", package).status == 0
    assert stranger(demo, package).status == 0


def test_tamper_leaves_what_is_no_demo_alone(
    demo: DemoProcess, sealed: Sealed, tmp_path: Path
) -> None:
    """Without the mark, or with somebody else's package, nothing is touched."""
    deployment = tmp_path / "real"
    made = demo.run("init", deployment, "--organ", "county", "--origin", "example.org/county")
    assert made.status == 0, made.err
    assert demo.run("tamper", "row", "--folder", deployment).status == 1
    assert demo.run("tamper", "package", sealed.photo).status == 1
    assert demo.run("tamper", "row", "ff" * 32).status == 1
    assert demo.run("tamper", "nothing").status == 64


def test_a_new_device_is_enrolled_and_ended(demo: DemoProcess, tmp_path: Path) -> None:
    """A key that was made here is refused before its enrolment, taken after it, refused again."""
    key, request = tmp_path / "device.pem", tmp_path / "request.json"
    made = demo.run("device", "keygen", "--holder", "device-2", "--out", key, "--request", request)
    assert made.status == 0, made.err
    config = json.loads(Path(demo.environment["FENGNI_CLIENT_CONFIG"]).read_text())
    config |= {"device_key_file": str(key), "journal_folder": str(tmp_path / "journal")}
    (tmp_path / "client.json").write_text(json.dumps(config))
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"\xff\xd8 a photo of a new device \xff\xd9")
    upload = ("upload", photo, "--config", tmp_path / "client.json", "--json")
    registrar = ("--registrar", demo.folder / "registrar")

    before = demo.run(*upload)
    assert before.status == 1
    assert before.json()["captures"][0]["problem"]["code"] == "key_unknown"
    assert demo.run("device", "enrol", request, *registrar).status == 0
    after = demo.run(*upload)
    assert after.status == 0, after.out
    assert after.ids() == before.ids()
    key_id = json.loads(request.read_text())["key_id"]
    assert demo.run("device", "revoke", key_id, *registrar, "--reason", "lost").status == 0
    photo.write_bytes(b"\xff\xd8 another one \xff\xd9")
    ended = demo.run(*upload)
    assert ended.json()["captures"][0]["problem"]["code"] == "key_revoked"
    assert demo.run("device", "revoke", key_id, *registrar).status == 1


def settle(demo: DemoProcess) -> None:
    """Wait until what was logged is published, so that a flipped file is the newest one."""
    [log] = (demo.server / "tiles").iterdir()
    head = FileHead(demo.server / "heads" / log.name / "head")
    deadline = time.monotonic() + 20
    while int((log / "checkpoint").read_text().splitlines()[1]) != head.read().size:
        assert time.monotonic() < deadline
        time.sleep(0.1)
