"""Courses of events with one set of keys: a session that is whole, and others wrong in one way.

`regenerate.py` writes each as a package vector.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from evidence.canonical import JSONObject
from evidence.keys import P256Signer
from evidence.packing import Contents
from evidence.statement import About, SignedStatement
from evidence.tlog.note import parse_signature_line, signature_line
from tests.evidence.package_maker import AT, ORIGIN, World, stamped, token, written
from tests.evidence.timestamp_maker import Authority


@dataclass
class Vector:
    """One package with the trust file that it is judged by and the expected answer."""

    package: bytes
    changed: list[str]
    unconfirmed: list[str]
    known: str = "known-keys.json"


@dataclass(kw_only=True)
class Course:
    """A session with two shots, opened and closed in the log; each part can be another."""

    held: Callable[[World], JSONObject | None] = World.held
    second: str = "device"
    counts: tuple[int, ...] = (2,)
    rotated: bool = False
    receipt: Callable[[SignedStatement, int], About | None] | None = None
    receipt_first: bool = False
    late: Callable[[World, P256Signer], object] | None = None

    def run(self, world: World) -> tuple[World, list[SignedStatement]]:
        """Log it all, with the world's keys."""
        world, owner = world.again(), world.device
        world.key("enrol", world.server, "server")
        world.key("enrol", owner, "device")
        other = P256Signer.generate()
        if self.second != "device":
            world.key("enrol", other, "device", holder=self.second)
        opens: JSONObject = {"phase": "open", "session": "visit"}
        held = self.held(world)
        opening = world.say(
            owner, "session", opens if held is None else {**opens, "checkpoint": held}
        )
        first = world.photo(
            number=1,
            about=opening.id,
            previous=opening.id,
            receipt=self.receipt,
            receipt_first=self.receipt_first,
        )
        if self.rotated:
            world.key("rotate", other, "device", replaces=owner.key_id)
        if self.rotated or self.second != "device":
            world.device = other
        second = world.photo(number=2, about=opening.id, previous=first.id)
        for count in self.counts:
            closing: JSONObject = {"phase": "close", "session": "visit", "count": count}
            signer = other if self.rotated else owner
            world.say(signer, "session", closing, about=opening.id)
        viewed: JSONObject = {"event": "viewed", "actor": "reviewer-002"}
        world.say(world.server, "custody", viewed, about=first.id)
        world.status()
        if self.late is not None:
            self.late(world, owner)
        return world, [first, second]


def stamp(world: World, shots: list[SignedStatement], authority: Authority) -> Contents:
    """The package's contents, with both shots' signatures stamped."""
    first = stamped(world, shots[0], authority, shots)
    own = {shots[1].signature: [token(authority, shots[1].signature)]}
    return replace(first, timestamps={**first.timestamps, **own})


def two_organs(authority: Authority) -> tuple[World, World, Contents]:
    """Two organs of one deployment, each with its keys and a photo, in one log and one package."""
    world = World()
    neighbour = world.neighbour("second-organ")
    for organ in (world, neighbour):
        organ.key("enrol", organ.server, "server")
        organ.key("enrol", organ.device, "device")
    shots = [organ.photo() for organ in (world, neighbour)]
    for organ in (world, neighbour):
        organ.status()
    return world, neighbour, stamp(world, shots, authority)


def flipped(data: bytes, place: int) -> bytes:
    """One bit changed."""
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def misplaced(capture: SignedStatement, index: int) -> About:
    """A receipt that names its capture and puts it at another index."""
    return About(statement=capture.id, log=ORIGIN, index=index + 1)


def misfiled(capture: SignedStatement, index: int) -> About:
    """A receipt that names its capture and puts it into another log."""
    return About(statement=capture.id, log=f"{ORIGIN}-b", index=index)


def rightly_placed(capture: SignedStatement, index: int) -> About:
    """A receipt that names the place of its capture."""
    return About(statement=capture.id, log=ORIGIN, index=index)


def without_lines(world: World) -> JSONObject:
    """A held checkpoint as a device without its witnesses' lines would name it."""
    return {name: value for name, value in world.held().items() if name != "cosignatures"}


def with_a_damaged_line(world: World) -> JSONObject:
    """One pinned witness's line says another second."""
    held = world.held()
    lines = cast("list[str]", held["cosignatures"])
    line = parse_signature_line(lines[1])
    changed = replace(line, value=flipped(line.value, 7))
    return {**held, "cosignatures": [lines[0], signature_line(changed).rstrip("\n")]}


def with_no_line(world: World) -> JSONObject:
    """A text that is no signature line."""
    return {**world.held(), "cosignatures": ["witness.example/a has seen it"]}


def of_a_later_tree(world: World) -> JSONObject:
    """A checkpoint of more entries than there were before the opening."""
    held = world.again()
    held.logged = [*world.logged, *world.logged]
    return held.held()


def of_another_log(world: World) -> JSONObject:
    """A checkpoint of a log that nobody pinned."""
    return {**world.held(), "log": f"{ORIGIN}-b"}


COURSES: dict[str, tuple[Course, list[str], list[str]]] = {
    "receipt-names-its-place": (Course(receipt=rightly_placed), [], []),
    "receipt-at-another-index": (Course(receipt=misplaced), [], ["content.stored"]),
    "receipt-in-another-log": (Course(receipt=misfiled), [], ["content.stored"]),
    "receipt-before-its-capture": (Course(receipt_first=True), [], ["content.stored"]),
    "session-key-rotated": (Course(rotated=True), [], []),
    "session-shot-of-another-holder": (
        Course(second="device-2"),
        [],
        ["session.completeness", "time.not_before"],
    ),
    "session-closed-twice-alike": (Course(counts=(2, 2)), [], []),
    "session-closed-twice": (Course(counts=(2, 3)), [], ["session.completeness"]),
    "session-without-its-last-shot": (Course(counts=(3,)), [], ["session.completeness"]),
    "session-never-closed": (Course(counts=()), [], ["session.completeness"]),
    "rotation-to-another-holder": (
        Course(
            late=lambda world, owner: world.key(
                "rotate", P256Signer.generate(), "device", holder="thief", replaces=owner.key_id
            )
        ),
        ["key.chain"],
        [],
    ),
    "revocation-of-another-epoch": (
        Course(
            late=lambda world, owner: world.key("revoke", owner, "device", reason="lost", epoch=2)
        ),
        ["key.chain"],
        [],
    ),
    "epoch-skipped": (
        Course(late=lambda world, _: world.key("enrol", P256Signer.generate(), "device", epoch=3)),
        ["key.chain"],
        [],
    ),
    "request-for-another-epoch": (
        Course(
            late=lambda world, _: world.key("enrol", P256Signer.generate(), "device", asked_epoch=1)
        ),
        ["key.chain"],
        [],
    ),
    "opening-without-checkpoint": (Course(held=lambda _: None), [], ["time.not_before"]),
    "opening-without-cosignatures": (Course(held=without_lines), [], ["time.not_before"]),
    "opening-with-too-few-cosignatures": (
        Course(held=lambda world: world.held(witnesses=1)),
        [],
        ["time.not_before"],
    ),
    "opening-with-a-damaged-cosignature": (
        Course(held=with_a_damaged_line),
        ["time.not_before"],
        [],
    ),
    "opening-with-no-signature-line": (Course(held=with_no_line), ["time.not_before"], []),
    "opening-holds-a-later-tree": (Course(held=of_a_later_tree), ["time.not_before"], []),
    "opening-holds-another-log": (Course(held=of_another_log), [], ["time.not_before"]),
    "interval-turned-around": (
        Course(held=lambda world: world.held(at=AT)),
        ["time.not_before"],
        [],
    ),
}


def courses(world: World, authority: Authority) -> dict[str, Vector]:
    """Every vector that is another course of events with the same keys."""
    found: dict[str, Vector] = {}
    for name, (course, changed, unconfirmed) in COURSES.items():
        contents = stamp(*course.run(world), authority)
        found[name] = Vector(written(contents).getvalue(), changed, unconfirmed)
    return found
