"""Make the package vectors anew; run with PYTHONPATH=. from the project's root.

Writes one good package, packages that are each broken in one named way, the trust files, and
expected.json with what a verifier must answer. Keys are fresh at each run.
"""

import base64
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from evidence.canonical import JSONObject, canonicalise
from evidence.digest import sha256_hex
from evidence.keys import P256Signer
from evidence.known_keys import KnownKeys, write_known_keys
from evidence.packing import FOLDER, Contents, Original, PackedStatement
from evidence.schema import format_time
from evidence.statement import About, SignedStatement, parse_statement
from evidence.tlog.checkpoint import Checkpoint
from evidence.tlog.note import parse_signature_line, signature_line
from evidence.tlog.proof import parse_tlog_proof
from tests.evidence.package_maker import (
    AT,
    ORIGIN,
    PHOTO,
    World,
    original,
    pinned,
    stamped,
    token,
    written,
)
from tests.evidence.timestamp_maker import Authority, Making

HERE = Path(__file__).parent
NOW = AT + timedelta(days=1)
FORKED = bytes.fromhex("cf3cf3" * 10 + "cf3c")  # base64 "zzzz…": the good note is the smaller one
LATER = AT + timedelta(days=3650)


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


def edited(data: bytes, change: dict[str, bytes | None], *, relist: bool = True) -> bytes:
    """Replace or drop members; `relist` writes the manifests anew, as a forger would."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        members = {i.filename.removeprefix(f"{FOLDER}/"): old.read(i) for i in old.infolist()}
        stored = {i.filename.removeprefix(f"{FOLDER}/"): i.compress_type for i in old.infolist()}
    for name, body in change.items():
        if body is None:
            del members[name]
        else:
            members[name] = body
    if relist:
        relisted(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, body in members.items():
            info = zipfile.ZipInfo(f"{FOLDER}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
            new.writestr(info, body, compress_type=stored.get(name, zipfile.ZIP_STORED))
    return out.getvalue()


def relisted(members: dict[str, bytes]) -> None:
    """Write both manifests for the members as they are."""
    payload = {n: sha256_hex(b) for n, b in members.items() if n.startswith("data/")}
    members["manifest-sha256.txt"] = lines(payload)
    tags = {
        n: sha256_hex(b)
        for n, b in members.items()
        if not n.startswith("data/") and n != "tagmanifest-sha256.txt"
    }
    members["tagmanifest-sha256.txt"] = lines(tags)


def lines(digests: dict[str, str]) -> bytes:
    """A BagIt manifest."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def flipped(data: bytes, place: int) -> bytes:
    """One bit changed."""
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def vectors(shots: list[SignedStatement], contents: Contents) -> dict[str, Vector]:
    """Every vector of one world."""
    good = written(contents).getvalue()
    member: Callable[[str], bytes] = zipfile.ZipFile(io.BytesIO(good)).read
    first = shots[0].id
    statement = f"data/statements/{first}.json"
    proof = f"data/proofs/{first}.tlog-proof"
    photo = f"data/originals/{first}.jpg"
    tokens = [n for n in zipfile.ZipFile(io.BytesIO(good)).namelist() if n.endswith(".tsr")]
    token = tokens[0].removeprefix(f"{FOLDER}/")
    signature_token = f"data/timestamps/{sha256_hex(shots[0].signature)}/1.tsr"
    text = member(f"{FOLDER}/{statement}")
    other: Original = replace(original(first, PHOTO + b"!"))
    return {
        "good": Vector(good, [], []),
        "not-a-zip": Vector(good[:100], ["package.container"], []),
        "two-folders": Vector(second_folder(good), ["package.container"], []),
        "path-trick": Vector(tricked(good), ["package.container"], []),
        "unlisted-member": Vector(
            edited(good, {"data/extra.txt": b"x"}, relist=False), ["package.manifest"], []
        ),
        "listed-digest-differs": Vector(
            edited(good, {"data/VERIFY.txt": b"trust me\n"}, relist=False),
            ["package.manifest"],
            [],
        ),
        "expired-keys": Vector(good, [], ["known_keys.valid"], "expired-known-keys.json"),
        "statement-edited": Vector(
            edited(good, {statement: text.replace(b"attended", b"import")}),
            ["statement.signature"],
            ["log.inclusion", "session.completeness", "content.digest"],
        ),
        "checkpoint-of-a-stranger": Vector(
            good, ["log.checkpoint"], ["log.inclusion", "content.digest"], "other-log-keys.json"
        ),
        "checkpoint-of-no-known-log": Vector(
            good,
            [],
            ["log.checkpoint", "log.inclusion", "content.digest"],
            "no-log-known-keys.json",
        ),
        "inclusion-proof-damaged": Vector(
            edited(good, {proof: swapped(member(f"{FOLDER}/{proof}"))}),
            ["log.inclusion"],
            ["log.inclusion", "content.digest", "session.completeness"],
        ),
        "registrar-not-pinned": Vector(
            good,
            ["key.chain"],
            [
                "key.validity",
                "key.status",
                "content.stored",
                "session.completeness",
                "time.not_before",
            ],
            "other-registrar-known-keys.json",
        ),
        "unwitnessed": Vector(
            good, [], ["log.witnesses", "time.not_before"], "other-witnesses-known-keys.json"
        ),
        "token-damaged": Vector(
            edited(good, {token: flipped(member(f"{FOLDER}/{token}"), -1)}),
            ["time.checkpoint"],
            [],
        ),
        "signature-token-missing": Vector(
            edited(good, {signature_token: None}), [], ["time.signature"]
        ),
        "authority-compromised": Vector(
            good, [], ["time.checkpoint", "time.signature"], "compromised-known-keys.json"
        ),
        "original-replaced": Vector(
            written(replace(contents, originals=[other, contents.originals[1]])).getvalue(),
            ["content.digest"],
            [],
        ),
        "original-missing": Vector(edited(good, {photo: None}), [], ["content.digest"]),
    }


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


def with_tokens(contents: Contents, token_of: Callable[[bytes], list[bytes]]) -> bytes:
    """The package with other tokens, by the bytes that they cover."""
    stamps = {message: token_of(message) for message in contents.timestamps}
    return written(replace(contents, timestamps=stamps)).getvalue()


def token_vectors(contents: Contents, authority: Authority) -> dict[str, Vector]:
    """Tokens that are believed, not believed, and none."""
    stranger = Authority.new()
    both = ["time.checkpoint", "time.signature"]
    bare = Making(authority=authority, certificates=[], gen_time=NOW - timedelta(days=100))
    return {
        "token-of-a-stranger": Vector(
            with_tokens(contents, lambda message: [token(stranger, message)]), [], both
        ),
        "token-of-a-stranger-beside-ours": Vector(
            with_tokens(
                contents, lambda message: [token(stranger, message), token(authority, message)]
            ),
            [],
            [],
        ),
        "token-over-other-bytes": Vector(
            with_tokens(
                contents, lambda message: [token(authority, message), token(authority, b"other")]
            ),
            both,
            [],
        ),
        "token-without-its-signer": Vector(
            with_tokens(contents, lambda message: [bare.but(message=message).response()]), both, []
        ),
    }


def checkpoint_vectors(world: World, contents: Contents) -> dict[str, Vector]:
    """Packages that lead into two checkpoints of one log."""
    size = len(world.logged)
    smaller = world.packed(world.checkpoint(size=size - 1), size - 1)
    forked = world.packed(world.signed(Checkpoint(origin=ORIGIN, size=size, root=FORKED)))
    viewed = next(
        number
        for number, (signed, _) in enumerate(world.logged)
        if parse_statement(signed.raw).kind == "custody"
    )

    def mixed(other: list[PackedStatement]) -> bytes:
        statements = list(contents.statements)
        statements[viewed] = other[viewed]
        return written(replace(contents, statements=statements)).getvalue()

    led_away = ["log.checkpoint", "log.inclusion"]
    return {
        "two-checkpoints": Vector(mixed(smaller), [], led_away),
        "two-histories": Vector(mixed(forked), ["log.checkpoint"], led_away),
    }


def refused_known_keys(known: KnownKeys, root: P256Signer) -> dict[str, bytes]:
    """Trust files that no verifier may take, each for one reason."""
    stranger, second = P256Signer.generate(), P256Signer.generate()
    raw = write_known_keys(known, [root])
    document = json.loads(raw)
    (own,) = document["signatures"]
    two = replace(known, root_threshold=2, root_keys=(*known.root_keys, second.public_key))
    half = json.loads(write_known_keys(two, [root, second]))
    foreign = signature_of(document, stranger)
    found = {
        "unsigned": {**document, "signatures": []},
        "signed-by-a-stranger": {**document, "signatures": [foreign]},
        "signed-by-a-stranger-too": {**document, "signatures": [own, foreign]},
        "signed-twice": {**document, "signatures": [own, signature_of(document, root)]},
        "signed-by-too-few": {**half, "signatures": half["signatures"][:1]},
        "edited": {**document, "signed": {**document["signed"], "expires": format_time(LATER)}},
    }
    return {
        f"refused-{name}-known-keys.json": canonicalise(content, max_bytes=1024 * 1024)
        for name, content in found.items()
    }


def signature_of(document: dict[str, Any], signer: P256Signer) -> dict[str, str]:
    """A signature over the file's own `signed`."""
    message = canonicalise(document["signed"], max_bytes=1024 * 1024)
    encoded = base64.b64encode(signer.sign(message)).decode()
    return {"key_id": signer.key_id, "signature": encoded}


def second_folder(data: bytes) -> bytes:
    """A member beside the one top folder."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("another-folder/file.txt", b"x")
    return out.getvalue()


def tricked(data: bytes) -> bytes:
    """A member that wants to leave the folder."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(f"{FOLDER}/data/../../evil.txt", b"x")
    return out.getvalue()


def swapped(proof: bytes) -> bytes:
    """A proof file whose first two hashes have changed places."""
    read = parse_tlog_proof(proof)
    one, two, *rest = read.hashes
    return replace(read, hashes=(two, one, *rest)).encode()


def variants(revoked: bool, hidden: bool) -> tuple[World, SignedStatement, Contents, Authority]:
    """A world in which the device's key was revoked, before or after its capture."""
    world, authority = World(), Authority.new()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    if revoked:
        world.key("revoke", world.device, "device", reason="lost")
    capture = world.photo()
    if hidden:
        world.key("revoke", world.device, "device", reason="lost")
    world.status()
    contents = stamped(world, capture, authority)
    kept = [item for item in contents.statements if not hidden or item.signed.id != world.head]
    return world, capture, replace(contents, statements=kept), authority


def main() -> None:
    """Write everything beside this file."""
    for old in (*HERE.glob("*.zip"), *HERE.glob("*.json")):
        old.unlink()
    authority, (world, shots) = Authority.new(), Course().run(World())
    contents = stamp(world, shots, authority)
    known = world.known(tsa_roots=(pinned(authority),))
    stranger = World()
    ended = replace(pinned(authority), compromised_since=AT.replace(year=2025))
    trust = {
        "known-keys.json": known,
        "expired-known-keys.json": replace(known, expires=AT),
        "other-log-keys.json": replace(known, logs=stranger.known().logs),
        "no-log-known-keys.json": replace(known, logs={}),
        "other-registrar-known-keys.json": replace(known, registrars=stranger.known().registrars),
        "other-witnesses-known-keys.json": replace(
            known,
            logs={
                origin: replace(log, policy=stranger.known().logs[origin].policy)
                for origin, log in known.logs.items()
            },
        ),
        "compromised-known-keys.json": replace(known, tsa_roots=(ended,)),
    }
    for name, content in trust.items():
        (HERE / name).write_bytes(write_known_keys(content, [world.root]))
    refused = refused_known_keys(known, world.root)
    for name, raw in refused.items():
        (HERE / name).write_bytes(raw)
    found = {
        **vectors(shots, contents),
        **courses(world, authority),
        **token_vectors(contents, authority),
        **checkpoint_vectors(world, contents),
    }
    for name, revoked, hidden, changed, unconfirmed in (
        ("key-revoked", True, False, ["key.validity"], ["session.completeness", "time.not_before"]),
        (
            "revocation-left-out",
            False,
            True,
            [],
            ["key.status", "session.completeness", "time.not_before"],
        ),
    ):
        other, _, made, stamper = variants(revoked, hidden)
        file = f"{name}-known-keys.json"
        (HERE / file).write_bytes(other.known_raw(stamper))
        found[name] = Vector(written(made).getvalue(), changed, unconfirmed, file)
    expected = {}
    for name, vector in found.items():
        (HERE / f"{name}.zip").write_bytes(vector.package)
        expected[name] = {
            "known_keys": vector.known,
            "content_changed": sorted(vector.changed),
            "cannot_confirm": sorted(vector.unconfirmed),
        }
    document = {
        "at": format_time(NOW),
        "refused_known_keys": sorted(refused),
        "vectors": expected,
    }
    (HERE / "expected.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
