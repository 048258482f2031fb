"""A verifier that was written from docs/evidence-format.md alone judges the package vectors.

``stranger/`` is Go with its standard library only and shares no code, and no author's knowledge of
the code, with the project's verifier. Where the document left a choice open, its author looked at
the expected outcomes of the vectors (not at the code).
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evidence.known_keys import parse_known_keys, write_known_keys
from evidence.report import Outcome
from evidence.schema import parse_time
from evidence.statement import SignedStatement
from evidence.verify import verify_package
from tests.evidence.package_maker import World, stamped, written
from tests.evidence.timestamp_maker import Authority
from tests.tools import ROOT, require_tool
from tests.vectors.packages.regenerate import edited

SOURCES = Path(__file__).resolve().parent / "stranger"
VECTORS = ROOT / "tests" / "vectors" / "packages"
EXPECTED = json.loads((VECTORS / "expected.json").read_text())
FLIPS = 60

Judge = Callable[[Path, Path], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Build the independent verifier and return what calls it."""
    go = require_tool("go")
    folder = tmp_path_factory.mktemp("stranger")
    program = folder / "stranger"
    environment = os.environ | {
        "GOCACHE": str(folder / "cache"),
        "GOPATH": str(folder / "path"),
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
    }
    subprocess.run([go, "build", "-o", program, "."], cwd=SOURCES, env=environment, check=True)

    def judge(package: Path, known_keys: Path) -> subprocess.CompletedProcess[str]:
        command = [program, package, known_keys, EXPECTED["at"]]
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


def test_a_flipped_bit_is_judged_alike_by_both_verifiers(stranger: Judge, tmp_path: Path) -> None:
    """Wherever one bit of a good package flips, both verifiers say pass, or neither does."""
    good = (VECTORS / "good.zip").read_bytes()
    known_keys = VECTORS / "known-keys.json"
    at = ("--at", EXPECTED["at"])
    step = len(good) // FLIPS
    disagreements = []
    for number in range(FLIPS):
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
