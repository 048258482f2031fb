"""A verifier that was written from docs/evidence-format.md alone judges the package vectors.

``stranger/`` is Go with its standard library only and shares no code with the project's verifier.
It was first written without knowledge of that verifier; where the document left a choice open, its
author looked at the expected outcomes of the vectors (not at the code).
"""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evidence.canonical import JSONObject
from evidence.known_keys import parse_known_keys, write_known_keys
from evidence.merkle import tree_root
from evidence.packing import FOLDER
from evidence.report import Outcome
from evidence.schema import parse_time
from evidence.statement import SignedStatement
from evidence.tlog.checkpoint import Checkpoint
from evidence.tlog.note import NoteSignature, signature_line
from evidence.tlog.proof import parse_tlog_proof
from evidence.verify import verify_package
from tests.evidence.package_maker import (
    ORIGIN,
    World,
    plain_file,
    stamped,
    world_with_photo,
    written,
)
from tests.evidence.timestamp_maker import Authority
from tests.sampling import some
from tests.tools import GO_CACHE, ROOT, require_tool
from tests.vectors.packages.regenerate import edited

SOURCES = Path(__file__).resolve().parent / "stranger"
VECTORS = ROOT / "tests" / "vectors" / "packages"
EXPECTED = json.loads((VECTORS / "expected.json").read_text())
FLIPS = 60

Judge = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Build the independent verifier and return what calls it."""
    go = require_tool("go")
    folder = tmp_path_factory.mktemp("stranger")
    program = folder / "stranger"
    environment = os.environ | {
        "GOCACHE": str(GO_CACHE),
        "CGO_ENABLED": "0",
        "GOPATH": str(folder / "path"),
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
    }
    subprocess.run([go, "build", "-o", program, "."], cwd=SOURCES, env=environment, check=True)

    def judge(
        package: Path, known_keys: Path, at: str = EXPECTED["at"]
    ) -> subprocess.CompletedProcess[str]:
        command = [program, package, known_keys, at]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return judge


@pytest.mark.parametrize("name", sorted(EXPECTED["vectors"]))
def test_the_stranger_judges_each_vector_as_expected(stranger: Judge, name: str) -> None:
    """The same checks come out changed and unconfirmed, and the exit status is the document's."""
    vector = EXPECTED["vectors"][name]
    outcomes = {key: vector[key] for key in ("content_changed", "cannot_confirm")}
    informative = {"time.signature", "time.not_before", "session.completeness", "custody.trail"}
    undecided = 2 if set(outcomes["cannot_confirm"]) - informative else 0
    expected = (outcomes, 1 if outcomes["content_changed"] else undecided)

    ended = stranger(VECTORS / f"{name}.zip", VECTORS / vector["known_keys"])

    actual = (json.loads(ended.stdout), ended.returncode)
    assert expected == actual


@pytest.mark.parametrize("name", EXPECTED["refused_known_keys"])
def test_the_stranger_refuses_each_wrong_trust_file(stranger: Judge, name: str) -> None:
    """Known keys that their own root keys did not sign are no known keys."""
    expected = (64, "")

    ended = stranger(VECTORS / "good.zip", VECTORS / name)

    actual = (ended.returncode, ended.stdout)
    assert expected == actual


def test_the_stranger_refuses_wrong_usage(stranger: Judge) -> None:
    """A package that cannot be opened is wrong usage, which has an exit status of its own."""
    expected = 64

    actual = stranger(VECTORS / "no-such-package.zip", VECTORS / "known-keys.json").returncode

    assert expected == actual


@pytest.mark.sampled
def test_a_flipped_bit_is_judged_alike_by_both_verifiers(stranger: Judge, tmp_path: Path) -> None:
    """Wherever one bit of a good package flips, both verifiers say pass, or neither does."""
    good = (VECTORS / "good.zip").read_bytes()
    known_keys = VECTORS / "known-keys.json"
    at = ("--at", EXPECTED["at"])
    step = len(good) // FLIPS
    disagreements = []
    for number in some(range(FLIPS), 12):
        # 17 and 5 only spread the places: another bit each time, never the start of a member.
        place, bit = number * step + 17 * number % step, 5 * number % 8
        flipped = bytearray(good)
        flipped[place] ^= 1 << bit
        package = tmp_path / f"flipped-{number}.zip"
        package.write_bytes(flipped)
        ours = subprocess.run(
            [sys.executable, "-m", "evidence", "verify", package, "--known-keys", known_keys, *at],
            cwd=ROOT,
            capture_output=True,
            check=False,
            timeout=60,
        )
        theirs = stranger(package, known_keys)
        if (ours.returncode == 0) != (theirs.returncode == 0):
            disagreements.append((place, bit, ours.returncode, theirs.returncode))

    expected: list[tuple[int, int, int, int]] = []

    actual = disagreements

    assert expected == actual


WITHOUT_SESSION = {"session.completeness", "time.not_before"}


def sealed(say: Callable[[World], object]) -> tuple[World, bytes, bytes]:
    """One photo, then whatever is said; a whole package of it, and the trust file."""
    world, authority = World(), Authority.new()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    capture = world.photo()
    say(world)
    package = written(stamped(world, capture, authority)).getvalue()
    return world, package, world.known_raw(authority)


def doctor(world: World) -> None:
    """Log the status in a check of another sort; no writer of ours makes it."""
    signed = world.status()
    raw = signed.raw.replace(b'"check":"keyring"', b'"check":"doctor"')
    again = SignedStatement(raw=raw, signature=world.server.sign(raw), key_id=signed.key_id)
    world.logged[-1] = (again, world.server.public_key)


COURSES: dict[str, tuple[Callable[[World], object], set[str], set[str]]] = {
    "whole": (World.status, set(), set()),
    "status-of-a-failed-check": (lambda world: world.status("fail"), set(), {"key.status"}),
    "status-in-another-check": (doctor, {"statement.signature"}, {"key.status"}),
}


@pytest.mark.parametrize("name", COURSES)
def test_both_verifiers_judge_a_course_of_events_alike(
    stranger: Judge, name: str, tmp_path: Path
) -> None:
    """What no vector shows, because it is about one sentence of the document."""
    say, changed, unconfirmed = COURSES[name]
    _, package, known_keys = sealed(say)
    expected = (changed, unconfirmed | WITHOUT_SESSION)

    assert expected == ours(package, known_keys)
    assert expected == theirs(stranger, tmp_path, package, known_keys)


def test_both_verifiers_accuse_no_organ_without_a_pinned_registrar(
    stranger: Judge, tmp_path: Path
) -> None:
    """A trust file that does not know the organ cannot say that its chain was broken."""
    world, package, known_keys = sealed(World.status)
    known = replace(parse_known_keys(known_keys), registrars=())
    short = write_known_keys(known, [world.root])
    keys = {"key.chain", "key.validity", "key.status", "content.stored"}
    expected = (set[str](), keys | WITHOUT_SESSION)

    assert expected == ours(package, short)
    assert expected == theirs(stranger, tmp_path, package, short)


@pytest.mark.parametrize("name", ["statements/{}", "leaves/{}.txt", "proofs/{}.json"])
def test_both_verifiers_refuse_a_second_file_for_a_statement(
    stranger: Judge, name: str, tmp_path: Path
) -> None:
    """A name that no statement, leaf or proof can have is not passed over, nor read as another."""
    world, package, known_keys = sealed(World.status)
    added = edited(package, {f"data/{name.format(world.head)}": b"x"})
    expected = ({"statement.signature"}, WITHOUT_SESSION)

    assert expected == ours(added, known_keys)
    assert expected == theirs(stranger, tmp_path, added, known_keys)


LINES, NOTE_BYTES, CHECKPOINTS = 64, 256 * 1024, 64  # docs/evidence-format.md §7, §8 and §10


def noted(change: Callable[[bytes, int], bytes], more: int = 0) -> tuple[bytes, bytes]:
    """A package in which each statement's note was changed by its number, and the trust file."""
    world, authority = World(), Authority.new()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    capture = world.photo()
    for _ in range(more):
        viewed: JSONObject = {"event": "viewed", "actor": "reviewer-002"}
        world.say(world.server, "custody", viewed, about=capture.id)
    world.status()
    contents = stamped(world, capture, authority)
    note = parse_tlog_proof(contents.statements[0].proof).checkpoint
    statements = [
        replace(item, proof=item.proof.replace(note, change(note, number)))
        for number, item in enumerate(contents.statements)
    ]
    package = written(replace(contents, statements=statements)).getvalue()
    return package, world.known_raw(authority)


def line(number: int, *, size_bytes: int = 5) -> bytes:
    """A signature line of a key that nobody knows, which is passed over."""
    value = number.to_bytes(size_bytes, "big")
    return signature_line(NoteSignature(name="nobody", key_id=b"none", value=value)).encode()


def filled(note: bytes, lines: int) -> bytes:
    """The note with so many signature lines."""
    missing = lines - note.rpartition(b"\n\n")[2].count(b"\n")
    return note + b"".join(map(line, range(missing)))


@pytest.mark.parametrize(
    ("change", "whole"),
    [
        (lambda note, _: filled(note, LINES), True),
        (lambda note, _: filled(note, LINES + 1), False),
        (lambda note, _: note + line(1), True),
        (lambda note, _: note + line(1) + line(1), False),
        (lambda note, _: note + line(1, size_bytes=3 * (NOTE_BYTES - 16 * 1024) // 4), True),
        (lambda note, _: note + line(1, size_bytes=3 * NOTE_BYTES // 4), False),
    ],
    ids=["64 lines", "65 lines", "a line once", "a line twice", "240 KiB", "256 KiB and more"],
)
def test_both_verifiers_keep_the_limits_of_a_note(
    stranger: Judge, change: Callable[[bytes, int], bytes], whole: bool, tmp_path: Path
) -> None:
    """A note within the limits is read, and one beyond them is nobody's proof."""
    package, known_keys = noted(change)
    nothing = {"statement.signature", "log.inclusion", "content.digest"}
    expected = (set[str](), WITHOUT_SESSION) if whole else ({"statement.signature"}, nothing)

    assert expected == ours(package, known_keys)
    assert expected == theirs(stranger, tmp_path, package, known_keys)


def extended(world: World) -> bytes:
    """A checkpoint of the whole log with a line that no log of ours writes."""
    size = len(world.logged)
    tree = Checkpoint(
        origin=ORIGIN, size=size, root=tree_root(size, world.node), extensions=("ours",)
    )
    return world.signed(tree)


def elsewhere(world: World) -> bytes:
    """The checkpoint under a name that no origin of ours can have."""
    return world.checkpoint().replace(ORIGIN.encode() + b"\n", b"Log 2026\n", 1)


@pytest.mark.parametrize(
    ("checkpoint", "unconfirmed"),
    [
        (World.checkpoint, {"time.checkpoint", "time.signature"}),
        (extended, {"time.checkpoint", "time.signature"}),
        (elsewhere, {"log.checkpoint", "log.inclusion", "content.digest"}),
    ],
    ids=["plain", "with an extension line", "of another name"],
)
def test_both_verifiers_read_what_a_checkpoint_may_say(
    stranger: Judge, checkpoint: Callable[[World], bytes], unconfirmed: set[str], tmp_path: Path
) -> None:
    """An extension line is covered and passed over; a strange origin is merely not pinned."""
    world, capture = world_with_photo()
    contents = world.contents([capture])
    note = parse_tlog_proof(contents.statements[0].proof).checkpoint
    other = checkpoint(world)
    statements = [
        replace(item, proof=item.proof.replace(note, other)) for item in contents.statements
    ]
    package = written(replace(contents, statements=statements)).getvalue()
    known_keys = world.known_raw(Authority.new())
    alone = set[str]() if checkpoint is elsewhere else WITHOUT_SESSION
    expected = (set[str](), unconfirmed | alone)

    assert expected == ours(package, known_keys)
    assert expected == theirs(stranger, tmp_path, package, known_keys)


@pytest.mark.parametrize("index", [b"5", b"9007199254740992", b"9223372036854775807"])
def test_both_verifiers_read_no_proof_from_outside_the_tree(
    stranger: Judge, index: bytes, tmp_path: Path
) -> None:
    """An index that the checkpoint's tree does not have is no proof of the statement."""
    world, package, known_keys = sealed(World.status)
    capture = world.logged[2][0].id
    name = f"data/proofs/{capture}.tlog-proof"
    proof = members_of(package)[name].replace(b"index 2\n", b"index " + index + b"\n")
    moved = edited(package, {name: proof})
    expected = ({"statement.signature"}, {"log.inclusion", "content.digest"})

    assert expected == ours(moved, known_keys)
    assert expected == theirs(stranger, tmp_path, moved, known_keys)


@pytest.mark.parametrize("notes", [CHECKPOINTS, CHECKPOINTS + 1])
def test_both_verifiers_take_as_many_checkpoints(
    stranger: Judge, notes: int, tmp_path: Path
) -> None:
    """One more than the limit fails the statement that leads there, the last by name."""
    package, known_keys = noted(
        lambda note, number: note + line(min(number, notes - 1)), more=CHECKPOINTS
    )
    changed, unconfirmed = ours(package, known_keys)

    assert ("statement.signature" in changed) == (notes > CHECKPOINTS)
    assert {"log.checkpoint", "log.inclusion"} <= unconfirmed
    assert (changed, unconfirmed) == theirs(stranger, tmp_path, package, known_keys)


def members_of(package: bytes) -> dict[str, bytes]:
    """What a package holds, by the names below its folder."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return {n.removeprefix(f"{FOLDER}/"): archive.read(n) for n in archive.namelist()}


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """The members as a package; `method` is for the originals."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            info = plain_file(f"{FOLDER}/{name}")
            original = name.startswith("data/originals/")
            archive.writestr(info, data, compress_type=method if original else zipfile.ZIP_STORED)
    return out.getvalue()


def with_a_second_original(package: bytes) -> bytes:
    """One capture with the same photo twice, under two extensions."""
    members = members_of(package)
    [name] = [name for name in members if name.startswith("data/originals/")]
    return edited(package, {name.replace(".jpg", ".jpeg"): b"another photo"})


def with_a_wrong_crc(package: bytes) -> bytes:
    """One member whose two headers state the same wrong CRC."""
    changed = bytearray(packed(members_of(package)))
    for signature, crc, name in ((b"PK\x03\x04", 14, 30), (b"PK\x01\x02", 16, 46)):
        at = changed.index(signature)
        assert changed[at + name :].startswith(f"{FOLDER}/data/index.json".encode())
        changed[at + crc] ^= 1
    return bytes(changed)


SHAPES: dict[str, tuple[Callable[[bytes], bytes], set[str], set[str]]] = {
    "members stored": (lambda package: packed(members_of(package)), set(), set()),
    "an original deflated": (
        lambda package: packed(members_of(package), zipfile.ZIP_DEFLATED),
        {"content.digest"},
        set(),
    ),
    "a second original": (with_a_second_original, set(), {"content.digest"}),
    "no bag-info.txt": (lambda package: edited(package, {"bag-info.txt": None}), set(), set()),
    "a file and a folder of one name": (
        lambda package: edited(package, {"data/x": b"x", "data/x/y": b"y"}),
        {"package.container"},
        set(),
    ),
    "a small member over 4 MiB": (
        lambda package: edited(package, {"data/attachments/x": bytes(4 * 1024 * 1024 + 1)}),
        {"package.manifest"},
        set(),
    ),
    "files to be fetched": (
        lambda package: edited(package, {"fetch.txt": b""}),
        {"package.manifest"},
        set(),
    ),
    "a tag file whose name begins like that": (
        lambda package: edited(package, {"fetch.txt.old": b""}),
        set(),
        set(),
    ),
}
ENDS = {"files to be fetched", "a file and a folder of one name"}


@pytest.mark.parametrize("name", SHAPES)
def test_both_verifiers_judge_the_form_of_a_package_alike(
    stranger: Judge, name: str, tmp_path: Path
) -> None:
    """The same check fails for a member of another form, and both go on or stop there."""
    change, changed, unconfirmed = SHAPES[name]
    _, package, known_keys = sealed(World.status)
    again = change(package)
    expected = (changed, unconfirmed | (set[str]() if name in ENDS else WITHOUT_SESSION))

    assert expected == ours(again, known_keys)
    assert expected == theirs(stranger, tmp_path, again, known_keys)


def test_both_verifiers_stop_at_an_index_that_is_damaged(stranger: Judge, tmp_path: Path) -> None:
    """Whoever cannot read what a package promises says that, and nothing about the rest."""
    _, package, known_keys = sealed(World.status)
    damaged = with_a_wrong_crc(package)
    expected = ({"package.manifest"}, set[str]())

    assert expected == ours(damaged, known_keys)
    assert expected == theirs(stranger, tmp_path, damaged, known_keys)


def ours(package: bytes, known_keys: bytes) -> tuple[set[str], set[str]]:
    """The checks that our verifier calls changed and unconfirmed."""
    at = parse_time(EXPECTED["at"])
    report = verify_package(io.BytesIO(package), parse_known_keys(known_keys), at)
    changed, unconfirmed = (
        {check.name for check in report.checks if check.outcome is outcome}
        for outcome in (Outcome.CHANGED, Outcome.UNCONFIRMED)
    )
    return changed, unconfirmed


def theirs(
    judge: Judge, folder: Path, package: bytes, known_keys: bytes
) -> tuple[set[str], set[str]]:
    """The checks that the stranger calls changed and unconfirmed."""
    (folder / "package.zip").write_bytes(package)
    (folder / "known-keys.json").write_bytes(known_keys)
    said = json.loads(judge(folder / "package.zip", folder / "known-keys.json").stdout)
    return set(said["content_changed"]), set(said["cannot_confirm"])
