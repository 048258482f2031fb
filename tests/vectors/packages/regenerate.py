"""Make the package vectors anew; run with PYTHONPATH=. from the project's root.

Writes one good package, packages that are each broken in one named way, the trust files, and
expected.json with what a verifier must answer. Keys are fresh at each run.
"""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from evidence.canonical import canonicalise
from evidence.digest import sha256_hex
from evidence.keys import P256Signer
from evidence.known_keys import KnownKeys, write_known_keys
from evidence.packing import FOLDER, Contents, Original, PackedStatement
from evidence.schema import format_time
from evidence.statement import SignedStatement, parse_statement
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
    plain_file,
    stamped,
    token,
    written,
)
from tests.evidence.timestamp_maker import Authority, Making
from tests.vectors.packages import edges
from tests.vectors.packages.bags import HERE, NOW, edited, kept, signature_of
from tests.vectors.packages.courses import Course, Vector, courses, flipped, stamp, two_organs
from tests.vectors.packages.layouts import archive_in_front, two_directories
from tests.vectors.packages.moments import TRUST, moment_vectors

FORKED = bytes.fromhex("cf3cf3" * 10 + "cf3c")  # base64 "zzzz…": the good note is the smaller one
LATER = AT + timedelta(days=3650)
OTHER_PHOTO = b"\xff\xd8\xff\xe0 stands for another photo \xff\xd9"


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
    note = parse_tlog_proof(contents.statements[0].proof).checkpoint
    cosigned = note.rstrip(b"\n").rsplit(b"\n", 1)
    line = parse_signature_line(cosigned[1].decode())
    wrong = signature_line(replace(line, value=flipped(line.value, -1))).encode()
    damaged = world.packed(b"\n".join((cosigned[0], wrong)))
    return {
        "cosignature-damaged": Vector(
            written(replace(contents, statements=damaged)).getvalue(),
            ["log.witnesses"],
            [],
        ),
        "two-checkpoints": Vector(mixed(smaller), [], led_away),
        "two-histories": Vector(mixed(forked), ["log.checkpoint"], led_away),
    }


def layout_vectors(good: bytes) -> dict[str, Vector]:
    """The good package and one with another photo, in one file."""
    names = zipfile.ZipFile(io.BytesIO(good)).namelist()
    photo = next(name for name in names if "/data/originals/" in name)
    other = edited(good, {photo.removeprefix(f"{FOLDER}/"): OTHER_PHOTO})
    return {
        "second-directory": Vector(two_directories(other, good), ["package.container"], []),
        "second-archive-in-front": Vector(archive_in_front(good, other), ["package.container"], []),
    }


def organ_vectors() -> tuple[dict[str, Vector], dict[str, bytes]]:
    """One package of two organs, with trust files that know both of them and the first only."""
    authority = Authority.new()
    world, neighbour, contents = two_organs(authority)
    package = written(contents).getvalue()
    both, one = "two-organs-known-keys.json", "one-organ-known-keys.json"
    known = world.known(tsa_roots=(pinned(authority),))
    registrars = (*known.registrars, *neighbour.known().registrars)
    alone = ["session.completeness", "time.not_before"]
    missing = ["key.chain", "key.validity", "key.status", "content.stored"]
    return {
        "two-organs": Vector(package, [], alone, both),
        "two-organs-one-pinned": Vector(package, [], [*alone, *missing], one),
    }, {
        both: write_known_keys(replace(known, registrars=registrars), [world.root]),
        one: write_known_keys(known, [world.root]),
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


def second_folder(data: bytes) -> bytes:
    """A member beside the one top folder."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(plain_file("another-folder/file.txt"), b"x")
    return out.getvalue()


def tricked(data: bytes) -> bytes:
    """A member that wants to leave the folder."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(plain_file(f"{FOLDER}/data/../../evil.txt"), b"x")
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
        **layout_vectors(written(contents).getvalue()),
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
    of_moments, raw = moment_vectors(Authority.new())
    (HERE / TRUST).write_bytes(raw)
    found |= of_moments
    more, files = organ_vectors()
    for file, raw in files.items():
        (HERE / file).write_bytes(raw)
    expected = {name: kept(name, vector) for name, vector in {**found, **more}.items()}
    document = {
        "at": format_time(NOW),
        "refused_known_keys": sorted(refused),
        "vectors": expected,
    }
    (HERE / "expected.json").write_text(json.dumps(document, indent=1) + "\n")
    edges.main()


if __name__ == "__main__":
    main()
