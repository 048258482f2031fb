"""Corners of the format: what may be there and mean nothing, and what fails where nobody looks.

Run with PYTHONPATH=. from the project's root: it makes these vectors anew, with a world and trust
files of their own, and leaves the others as they are.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.canonical import JSONObject, canonicalise
from evidence.keys import P256Signer
from evidence.known_keys import KnownKeys, write_known_keys
from evidence.packing import Contents
from evidence.statement import SignedStatement, make_statement, parse_statement
from evidence.tlog.checkpoint import (
    LogSigner,
    parse_checkpoint_body,
    timestamped_message,
)
from evidence.tlog.cosignature import Cosigner, TreeHead, ed25519_message
from evidence.tlog.note import (
    COSIGNATURE_ED25519,
    ML_DSA_44,
    NoteSignature,
    VerifierKey,
    parse_note,
    signature_line,
)
from evidence.tlog.policy import parse_policy
from evidence.tlog.proof import parse_tlog_proof
from tests.evidence.package_maker import AT, PHOTO, World, pinned, token, written
from tests.evidence.timestamp_maker import (
    NOW,
    START,
    Authority,
)
from tests.vectors.packages.bags import HERE, edited, kept, signature_of
from tests.vectors.packages.courses import Course, Vector, flipped
from tests.vectors.packages.layouts import zip64_throughout
from tests.vectors.packages.stamps import makings

SECOND = "fengni.example/logs/second-2026"
NOBODY = "00" * 32
DEMANDED = "edges-demanded-known-keys.json"
Edit = Callable[[list[NoteSignature]], list[NoteSignature]]


@dataclass
class Edges:
    """One world whose packages are small: its witnesses have one key each, which we hold."""

    authority: Authority = field(default_factory=Authority.new)
    keys: list[Ed25519PrivateKey] = field(
        default_factory=lambda: [Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()]
    )
    world: World = field(init=False)

    def __post_init__(self) -> None:
        """Name the witnesses."""
        named = zip(("witness.example/c", "witness.example/d"), self.keys, strict=True)
        self.world = World(witnesses=[Cosigner(name, key, None) for name, key in named])

    def known(self) -> KnownKeys:
        """The trust file of these vectors."""
        return self.world.known(tsa_roots=(pinned(self.authority),))

    def packed(
        self, ran: tuple[World, list[SignedStatement]], note: bytes | None = None
    ) -> Contents:
        """A course's package, all of it under one note, which is stamped."""
        world, shots = ran
        note = world.checkpoint() if note is None else note
        covered = [timestamped_message(note, world.log.origin)]
        covered += [shot.signature for shot in shots]
        return replace(
            world.contents(shots),
            statements=world.packed(note),
            timestamps={message: [token(self.authority, message)] for message in covered},
        )

    def run(self, course: Course | None = None) -> tuple[World, list[SignedStatement]]:
        """A course of events in this world."""
        return (course or Course()).run(self.world)

    def line(self, tree: TreeHead, at_s: int) -> NoteSignature:
        """The first witness's line, also for a time that it would not state."""
        value = self.keys[0].sign(ed25519_message(tree, at_s))
        [key] = self.world.witnesses[0].verifier_keys
        return NoteSignature(
            name=key.name, key_id=key.key_id, value=at_s.to_bytes(8, "big") + value
        )

    def timeless(self, world: World) -> JSONObject:
        """A held checkpoint in which one pinned witness states the time 0."""
        held = world.held(witnesses=2)
        tree = parse_checkpoint_body(parse_note(world.checkpoint(cosigned=False)).text)
        line = signature_line(self.line(tree, 0)).rstrip("\n")
        return {**held, "cosignatures": [line]}


def relined(note: bytes, edit: Edit) -> bytes:
    """The note with other signature lines."""
    read = parse_note(note)
    return replace(read, signatures=tuple(edit(list(read.signatures)))).encode()


def note_vectors(edges: Edges) -> dict[str, Vector]:
    """Checkpoints with lines that are missing, failing, without a time, or merely strange."""
    ran = edges.run()
    world, _ = ran
    note = world.checkpoint()
    tree = parse_checkpoint_body(parse_note(note).text)
    [ml_dsa] = [key.key_id for key in world.log.verifier_keys if key.kind == ML_DSA_44]
    at_s = int(AT.timestamp())
    cosigned = parse_note(note).signatures[2:]

    def broken(line: NoteSignature) -> NoteSignature:
        wrong = line.key_id == ml_dsa
        return replace(line, value=flipped(line.value, -1)) if wrong else line

    notes: dict[str, tuple[bytes, list[str], list[str], str]] = {
        "ml-dsa-line-missing": (
            relined(note, lambda lines: [line for line in lines if line.key_id != ml_dsa]),
            ["log.checkpoint"],
            [],
            DEMANDED,
        ),
        "ml-dsa-line-failing": (
            relined(note, lambda lines: list(map(broken, lines))),
            ["log.checkpoint"],
            ["log.inclusion", "content.digest"],
            "",
        ),
        "ml-dsa-line-of-time-zero": (
            world.log.sign(tree, 0) + "".join(map(signature_line, cosigned)).encode(),
            [],
            [],
            DEMANDED,
        ),
        "witness-of-time-zero": (
            relined(note, lambda lines: [*lines[:2], edges.line(tree, 0), *lines[3:]]),
            ["log.witnesses"],
            [],
            "",
        ),
        "witness-twice": (
            relined(note, lambda lines: [*lines, edges.line(tree, at_s)]),
            [],
            [],
            "",
        ),
        "note-with-an-extension-line": (
            world.signed(replace(tree, extensions=("theirs",))),
            [],
            [],
            DEMANDED,
        ),
    }
    found = {
        name: edges_vector(edges.packed(ran, other), changed, missing, known)
        for name, (other, changed, missing, known) in notes.items()
    }
    contents = edges.packed(ran)
    proofs = [parse_tlog_proof(item.proof) for item in contents.statements]
    more = [
        replace(item, proof=replace(proof, extra=b"more").encode())
        for item, proof in zip(contents.statements, proofs, strict=True)
    ]
    return {
        **found,
        "ml-dsa-line-missing-before-its-date": edges_vector(found["ml-dsa-line-missing"].package),
        "proof-with-an-extra-line": edges_vector(replace(contents, statements=more)),
    }


def edges_vector(
    package: bytes | Contents,
    changed: Sequence[str] = (),
    unconfirmed: Sequence[str] = (),
    known: str = "",
) -> Vector:
    """A vector that is judged by this world's trust file unless another is named."""
    data = package if isinstance(package, bytes) else written(package).getvalue()
    return Vector(data, list(changed), list(unconfirmed), known or "edges-known-keys.json")


def logged(document: JSONObject) -> Callable[[World, P256Signer], object]:
    """Log bytes that no writer of ours makes, signed by the server."""

    def log(world: World, _: P256Signer) -> None:
        raw = canonicalise(document)
        signed = SignedStatement(
            raw=raw, signature=world.server.sign(raw), key_id=world.server.key_id
        )
        world.logged.append((signed, world.server.public_key))

    return log


def elsewhere(world: World, _: P256Signer) -> None:
    """The server's statement for another deployment."""
    raw = make_statement(
        "custody",
        audience="another-deployment",
        organ=world.organ,
        signer=world.server.key_id,
        salt="00" * 16,
        made_at=AT,
        body={"event": "viewed", "actor": "reviewer-002"},
        about=parse_statement(world.logged[-2][0].raw).about,
    )
    logged(json.loads(raw))(world, world.server)


def statement_vectors(edges: Edges) -> dict[str, Vector]:
    """Statements of later versions, unknown kinds and other deployments; openings."""
    later: JSONObject = {"type": "fengni/custody/v2", "whatever": True}
    cases: dict[str, tuple[Course, list[str], list[str]]] = {
        "statement-of-version-2": (Course(late=logged(later)), [], ["statement.signature"]),
        "statement-of-version-10000": (
            Course(late=logged({**later, "type": "fengni/custody/v10000"})),
            ["statement.signature"],
            [],
        ),
        "statement-of-an-unknown-kind": (
            Course(late=logged({**later, "type": "fengni/gossip/v2"})),
            ["statement.signature"],
            [],
        ),
        "statement-for-another-deployment": (Course(late=elsewhere), [], ["key.validity"]),
        "opening-with-a-witness-of-time-zero": (
            Course(held=edges.timeless),
            ["time.not_before"],
            [],
        ),
    }
    return {
        name: edges_vector(edges.packed(edges.run(course)), changed, missing)
        for name, (course, changed, missing) in cases.items()
    }


def log_vectors(edges: Edges) -> tuple[dict[str, Vector], KnownKeys]:
    """Two pinned logs, each with its own key chain and status; and the trust file."""
    signer = LogSigner(SECOND, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
    second = replace(edges.world, log=signer)
    one, other = edges.packed(edges.run()), edges.packed(Course().run(second))
    both = replace(
        one,
        captures=[*one.captures, *other.captures],
        statements=[*one.statements, *other.statements],
        timestamps={**one.timestamps, **other.timestamps},
        originals=[*one.originals, *other.originals],
    )
    ours = [item for item in other.statements if parse_statement(item.signed.raw).kind != "check"]
    file = "edges-two-logs-known-keys.json"
    known = edges.known()
    return {
        "two-logs": edges_vector(both, known=file),
        "two-logs-one-without-status": edges_vector(
            replace(both, statements=[*one.statements, *ours]), [], ["key.status"], file
        ),
        "two-logs-one-pinned": edges_vector(
            both, [], ["log.checkpoint", "log.inclusion", "content.digest"]
        ),
    }, replace(known, logs={**known.logs, **second.known().logs})


def bag_vectors(contents: Contents) -> dict[str, Vector]:
    """Members that are missing, too many, misspelt, packed otherwise, or nobody's."""
    good, [capture, *_] = written(contents).getvalue(), contents.captures
    photo = f"data/originals/{capture}.jpg"
    stops, fails = ["package.container"], ["package.manifest"]
    orphans: dict[str, bytes | None] = {
        f"data/leaves/{NOBODY}.json": b"x",
        f"data/proofs/{NOBODY}.tlog-proof": b"x",
        f"data/timestamps/{NOBODY}/1.tsr": b"x",
        f"data/bundles/{NOBODY}.json": b"x",
        "data/notes.txt": b"x",
        "notes/today.txt": b"x",
    }
    return {
        "edges": edges_vector(good),
        "index-for-another-deployment": edges_vector(
            replace(contents, audience="another-deployment"), [], ["known_keys.valid"]
        ),
        "zip64-throughout": edges_vector(zip64_throughout(good)),
        "no-members": edges_vector(b"PK\x05\x06" + bytes(18), stops),
        "folder-in-two-spellings": edges_vector(edited(good, {"Data/x.txt": b"x"}), stops),
        "bagit-txt-of-another-version": edges_vector(
            edited(good, {"bagit.txt": b"BagIt-Version: 0.97\n"}), fails
        ),
        "bag-info-missing": edges_vector(edited(good, {"bag-info.txt": None})),
        "fetch-txt": edges_vector(edited(good, {"fetch.txt": b""}), fails),
        "tagmanifest-missing": edges_vector(
            edited(good, {"tagmanifest-sha256.txt": None}, relist=False), fails
        ),
        "orphan-members": edges_vector(edited(good, orphans)),
        "original-deflated": edges_vector(edited(good, {}, deflate=photo), ["content.digest"]),
        "original-twice": edges_vector(
            edited(good, {f"data/originals/{capture}.jpeg": PHOTO}), [], ["content.digest"]
        ),
    }


def token_vectors(edges: Edges) -> dict[str, Vector]:
    """Tokens of forms that authorities also write, and one whose signer is misnamed."""
    contents = edges.packed(edges.run())
    at = NOW.replace(microsecond=0)
    return {
        name: edges_vector(
            replace(
                contents,
                timestamps={
                    message: [making.but(message=message).response()]
                    for message in contents.timestamps
                },
            ),
            [],
            unconfirmed,
        )
        for name, (making, unconfirmed) in makings(edges.authority, at).items()
    }


def trust_vectors(edges: Edges, good: bytes) -> tuple[dict[str, Vector], dict[str, bytes]]:
    """One package judged by other trust files; and the trust files."""
    known, root, fresh = edges.known(), edges.world.root, P256Signer.generate()
    [(origin, log)] = known.logs.items()
    alone = replace(log, policy=parse_policy(b"quorum none\n"))
    content = {
        "edges-known-keys.json": known,
        DEMANDED: replace(known, logs={origin: replace(log, ml_dsa_from=START)}),
        "edges-quorum-none-known-keys.json": replace(known, logs={origin: alone}),
        "edges-another-deployment-known-keys.json": replace(known, audience="another-deployment"),
    }
    files = {name: write_known_keys(one, [root]) for name, one in content.items()}
    successor = replace(known, version=2, root_keys=(fresh.public_key,))
    files["edges-successor-known-keys.json"] = write_known_keys(successor, [root, fresh])
    lost = ["key.chain", "key.validity", "key.status", "content.stored"]
    vectors = {
        "quorum-none": (["time.not_before"], "edges-quorum-none-known-keys.json"),
        "known-keys-of-another-deployment": (
            ["known_keys.valid", *lost, "session.completeness", "time.not_before"],
            "edges-another-deployment-known-keys.json",
        ),
        "known-keys-of-a-successor": ([], "edges-successor-known-keys.json"),
    }
    return {
        name: edges_vector(good, [], unconfirmed, file)
        for name, (unconfirmed, file) in vectors.items()
    }, files


def refused(edges: Edges) -> dict[str, bytes]:
    """A trust file in which a witness's key has a log's name."""
    document = json.loads(write_known_keys(edges.known(), [edges.world.root]))
    [log] = document["signed"]["logs"]
    public = edges.keys[0].public_key().public_bytes_raw()
    key = VerifierKey(name=log["origin"], kind=COSIGNATURE_ED25519, public_key=public)
    log["keys"].append(key.encode())
    document["signatures"] = [signature_of(document, edges.world.root)]
    raw = canonicalise(document, max_bytes=1024 * 1024)
    return {"refused-log-with-a-witness-key-known-keys.json": raw}


def main() -> None:
    """Write these vectors and trust files, and put what is expected among the rest."""
    edges = Edges()
    contents = edges.packed(edges.run())
    good = written(contents).getvalue()
    logs, two = log_vectors(edges)
    trust, files = trust_vectors(edges, good)
    files["edges-two-logs-known-keys.json"] = write_known_keys(two, [edges.world.root])
    wrong = refused(edges)
    for name, raw in {**files, **wrong}.items():
        (HERE / name).write_bytes(raw)
    found = {
        **bag_vectors(contents),
        **note_vectors(edges),
        **statement_vectors(edges),
        **logs,
        **token_vectors(edges),
        **trust,
    }
    document = json.loads((HERE / "expected.json").read_text())
    names = {*document["refused_known_keys"], *wrong}
    document["refused_known_keys"] = sorted(names)
    document["vectors"] |= {name: kept(name, vector) for name, vector in found.items()}
    (HERE / "expected.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
