"""Make the package vectors anew; run with PYTHONPATH=. from the project's root.

Writes one good package, packages that are each broken in one named way, the trust files, and
expected.json with what a verifier must answer. Keys are fresh at each run.
"""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from evidence.digest import sha256_hex
from evidence.known_keys import write_known_keys
from evidence.packing import FOLDER, Contents, Original
from evidence.schema import format_time
from evidence.statement import SignedStatement
from evidence.tlog.proof import parse_tlog_proof
from tests.evidence.package_maker import (
    AT,
    PHOTO,
    World,
    original,
    pinned,
    stamped,
    written,
)
from tests.evidence.timestamp_maker import Authority

HERE = Path(__file__).parent
NOW = AT + timedelta(days=1)


@dataclass
class Vector:
    """One package with the trust file that it is judged by and the expected answer."""

    package: bytes
    changed: list[str]
    unconfirmed: list[str]
    known: str = "known-keys.json"


def world_of() -> tuple[World, list[SignedStatement]]:
    """A session with two shots, opened and closed in the log, everything enrolled."""
    world = World()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    opening = world.say(world.device, "session", {"phase": "open", "session": "visit"})
    shots: list[SignedStatement] = []
    for number in (1, 2):
        before = (shots or [opening])[-1].id
        shots.append(world.photo(number=number, about=opening.id, previous=before))
    closing: dict[str, Any] = {"phase": "close", "session": "visit", "count": 2}
    world.say(world.device, "session", closing, about=opening.id)
    viewed: dict[str, Any] = {"event": "viewed", "actor": "reviewer-002"}
    world.say(world.server, "custody", viewed, about=shots[0].id)
    world.status()
    return world, shots


def stamp(world: World, shots: list[SignedStatement], authority: Authority) -> Contents:
    """The package's contents, with both shots' signatures stamped."""
    first = stamped(world, shots[0], authority, shots)
    note = parse_tlog_proof(first.statements[0].proof).checkpoint
    second = stamped(world, shots[1], authority, shots)
    kept = {sig: second.timestamps[sig] for sig in (shots[1].signature,)}
    assert note
    return replace(first, timestamps={**first.timestamps, **kept})


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
            ["key.validity", "key.status", "content.stored", "session.completeness"],
            "other-registrar-known-keys.json",
        ),
        "unwitnessed": Vector(good, [], ["log.witnesses"], "other-witnesses-known-keys.json"),
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
    (world, shots), authority = world_of(), Authority.new()
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
    found = vectors(shots, contents)
    for name, revoked, hidden, changed, unconfirmed in (
        ("key-revoked", True, False, ["key.validity"], ["session.completeness"]),
        ("revocation-left-out", False, True, [], ["key.status", "session.completeness"]),
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
    document = {"at": format_time(NOW), "vectors": expected}
    (HERE / "expected.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
