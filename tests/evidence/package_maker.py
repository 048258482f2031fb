"""A whole small deployment in memory: real keys, a real tree, real cosignatures, no store.

Made for tests of the verifier; everything in it is generated at each run.
"""

import base64
import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.canonical import JSONObject, JSONValue
from evidence.digest import Measured, sha256_hex
from evidence.keyring import Registrar
from evidence.keys import P256Signer
from evidence.known_keys import (
    KnownKeys,
    KnownLog,
    PinnedRoot,
    parse_known_keys,
    write_known_keys,
)
from evidence.leaf import leaf_of
from evidence.merkle import hash_children, hash_leaf, inclusion_proof, tree_root
from evidence.packing import Contents, Original, PackedStatement, write_package
from evidence.statement import About, SignedStatement, make_statement, sign_statement
from evidence.tlog.checkpoint import (
    Checkpoint,
    LogSigner,
    parse_checkpoint_body,
    timestamped_message,
)
from evidence.tlog.cosignature import Cosigner
from evidence.tlog.note import parse_note, signature_line
from evidence.tlog.policy import Group, Policy, parse_policy
from evidence.tlog.proof import TlogProof, parse_tlog_proof
from tests.evidence.timestamp_maker import NOW, Authority, Making

ORIGIN = "fengni.example/logs/test-2026"
AUDIENCE = "fengni-test"
ORGAN = "test-organ"
HELD_AT = NOW.replace(microsecond=0) - timedelta(hours=1)
AT = datetime(2026, 11, 23, 1, 4, 5, 678000, tzinfo=UTC)
PHOTO = b"\xff\xd8\xff\xe0 stands for a photo \xff\xd9"


def witness(name: str) -> Cosigner:
    """A witness with both kinds of key."""
    return Cosigner(name, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())


def policy_of(witnesses: list[Cosigner]) -> Policy:
    """All of the witnesses must cosign, each with either key."""
    lines: list[str] = []
    for number, item in enumerate(witnesses, 1):
        names = [f"w{number}-{key.kind}" for key in item.verifier_keys]
        lines += [
            f"witness {name} {key.encode()}\n"
            for name, key in zip(names, item.verifier_keys, strict=True)
        ]
        lines.append(f"group w{number} any {' '.join(names)}\n")
    members = " ".join(f"w{n}" for n in range(1, len(witnesses) + 1))
    lines += [f"group all-witnesses all {members}\n", "quorum all-witnesses\n"]
    policy = parse_policy("".join(lines).encode())
    assert isinstance(policy.groups[0], Group)
    return policy


@dataclass
class World:
    """Keys, a growing log, and the package over it."""

    registrar: P256Signer = field(default_factory=P256Signer.generate)
    server: P256Signer = field(default_factory=P256Signer.generate)
    device: P256Signer = field(default_factory=P256Signer.generate)
    root: P256Signer = field(default_factory=P256Signer.generate)
    log: LogSigner = field(
        default_factory=lambda: LogSigner(
            ORIGIN, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()
        )
    )
    witnesses: list[Cosigner] = field(
        default_factory=lambda: [witness("witness.example/a"), witness("witness.example/b")]
    )
    logged: list[tuple[SignedStatement, bytes]] = field(default_factory=list)
    organ: str = ORGAN
    head: str | None = None
    sequence: int = 0
    epochs: dict[str, int] = field(default_factory=dict[str, int])

    def say(
        self,
        signer: P256Signer,
        kind: str,
        body: JSONObject,
        *,
        about: str | About | None = None,
        previous: str | None = None,
        log: bool = True,
    ) -> SignedStatement:
        """Sign a statement and, unless told otherwise, log it."""
        subject = About(statement=about) if isinstance(about, str) else about
        raw = make_statement(
            kind,
            audience=AUDIENCE,
            organ=self.organ,
            signer=signer.key_id,
            salt=os.urandom(16).hex(),
            made_at=AT + timedelta(seconds=len(self.logged)),
            body=body,
            about=subject,
            previous=previous,
        )
        signed = sign_statement(raw, signer)
        if log:
            self.logged.append((signed, signer.public_key))
        return signed

    def key(self, action: str, key: P256Signer, role: str, **more: JSONValue) -> SignedStatement:
        """Log the registrar's next key statement; the holder is the role unless named."""
        holder = str(more.get("holder", role))
        body: JSONObject = {"action": action, "key_id": key.key_id, "role": role, "holder": holder}
        public = base64.b64encode(key.public_key).decode()
        if action != "revoke":
            asked: JSONObject = {**body, "action": "request", "public_key": public}
            if "asked_epoch" in more:
                asked["epoch"] = more.pop("asked_epoch")
            request = self.say(key, "key", asked, log=False)
            body["public_key"] = public
            body["possession"] = {
                "statement": base64.b64encode(request.raw).decode(),
                "signature": base64.b64encode(request.signature).decode(),
            }
            self.epochs[holder] = self.epochs.get(holder, 0) + 1
        self.sequence += 1
        body |= {"epoch": self.epochs.get(holder, 1), "sequence": self.sequence, **more}
        signed = self.say(self.registrar, "key", body, previous=self.head)
        self.head = signed.id
        return signed

    def photo(
        self,
        content: bytes = PHOTO,
        *,
        number: int | None = None,
        about: str | None = None,
        previous: str | None = None,
        measured: Measured | None = None,
        receipt: Callable[[SignedStatement, int], About | None] | None = None,
        receipt_first: bool = False,
    ) -> SignedStatement:
        """Log a capture and the server's receipt for it.

        `receipt` says from the capture and its index what the receipt is about.
        """
        found = measured or Measured(sha256=sha256_hex(content), size_bytes=len(content))
        announced: JSONObject = {
            "sha256": found.sha256,
            "size_bytes": found.size_bytes,
            "media_type": "image/jpeg",
        }
        capture = self.say(
            self.device,
            "capture",
            {
                "content": announced,
                "mode": "attended",
                "captured_at": "2026-11-23T01:04:05.678Z",
                **({"number": number} if number else {}),
            },
            about=about,
            previous=previous,
            log=not receipt_first,
        )
        index = len(self.logged) - 1
        self.say(
            self.server,
            "stored",
            {
                "content": announced,
                "object": {
                    "store": "local",
                    "name": found.sha256,
                    "size_bytes": found.size_bytes,
                },
                "assurance": "directory-mode-bits",
                "received_at": "2026-11-23T01:04:09.120Z",
            },
            about=receipt(capture, index) if receipt else capture.id,
        )
        if receipt_first:
            self.logged.append((capture, self.device.public_key))
        return capture

    def held(self, *, at: datetime = HELD_AT, witnesses: int = 2) -> JSONObject:
        """The checkpoint of the log as it stands, as an opening names it."""
        checkpoint = parse_checkpoint_body(parse_note(self.checkpoint(cosigned=False)).text)
        at_s = int(at.timestamp())
        lines = [item.cosign(checkpoint, at_s)[0] for item in self.witnesses[:witnesses]]
        return {
            "log": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
            "cosignatures": [signature_line(line).rstrip("\n") for line in lines],
        }

    def again(self) -> "World":
        """The same keys with an empty log: another course of events."""
        return replace(self, logged=[], head=None, sequence=0, epochs={})

    def neighbour(self, organ: str) -> "World":
        """Another organ of the same deployment: its own keys and chain, in the same log."""
        keys = {name: P256Signer.generate() for name in ("registrar", "server", "device")}
        return replace(self, organ=organ, head=None, sequence=0, epochs={}, **keys)

    def status(self, outcome: str = "pass") -> SignedStatement:
        """Log the server's word that the key chain is whole, or that its check ended otherwise."""
        ring: JSONObject = {
            "log": self.log.origin,
            "size": len(self.logged),
            "sequence": self.sequence,
        }
        if self.head:
            ring["head"] = self.head
        return self.say(
            self.server, "check", {"check": "keyring", "outcome": outcome, "keyring": ring}
        )

    def node(self, level: int, index: int) -> bytes:
        """Hash of a complete subtree, computed the slow and obvious way."""
        if level == 0:
            signed, public = self.logged[index]
            return hash_leaf(leaf_of(signed.id, signed.signature, public))
        return hash_children(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def checkpoint(
        self, *, cosigned: bool = True, size: int | None = None, at: datetime = AT
    ) -> bytes:
        """Sign the tree as it stands, or as it stood at a size; cosigned 61 s after `at`."""
        size = len(self.logged) if size is None else size
        tree = Checkpoint(origin=self.log.origin, size=size, root=tree_root(size, self.node))
        return self.signed(tree, cosigned=cosigned, at=at)

    def signed(self, tree: Checkpoint, *, cosigned: bool = True, at: datetime = AT) -> bytes:
        """The log's signature over any tree, and the witnesses'."""
        at_s = int(at.timestamp()) + 60
        note = self.log.sign(tree, at_s)
        for item in self.witnesses if cosigned else []:
            note += "".join(map(signature_line, item.cosign(tree, at_s + 1))).encode()
        return note

    def known(self, **changes: object) -> KnownKeys:
        """The trust file for this world."""
        content = KnownKeys(
            sha256="",
            version=1,
            audience=AUDIENCE,
            expires=AT + timedelta(days=365),
            root_threshold=1,
            root_keys=(self.root.public_key,),
            registrars=(Registrar(organ=self.organ, public_key=self.registrar.public_key),),
            logs={
                self.log.origin: KnownLog(
                    origin=self.log.origin,
                    keys=self.log.verifier_keys,
                    ml_dsa_from=AT,
                    policy=policy_of(self.witnesses),
                )
            },
            tsa_roots=(),
        )
        return parse_known_keys(write_known_keys(replace(content, **changes), [self.root]))

    def known_raw(self, authority: Authority) -> bytes:
        """The trust file's bytes, with an authority's root pinned."""
        return write_known_keys(self.known(tsa_roots=(pinned(authority),)), [self.root])

    def packed(self, checkpoint: bytes, size: int | None = None) -> list[PackedStatement]:
        """Every logged statement below a size with its proof into one checkpoint."""
        size = len(self.logged) if size is None else size
        return [
            PackedStatement(
                signed=signed,
                public_key=public,
                proof=TlogProof(
                    index=index,
                    hashes=tuple(inclusion_proof(index, size, self.node)),
                    checkpoint=checkpoint,
                ).encode(),
            )
            for index, (signed, public) in enumerate(self.logged[:size])
        ]

    def contents(self, captures: list[SignedStatement], *, cosigned: bool = True) -> Contents:
        """What a package of these captures is made of."""
        return Contents(
            audience=AUDIENCE,
            made_at=AT,
            captures=[capture.id for capture in captures],
            statements=self.packed(self.checkpoint(cosigned=cosigned)),
            timestamps={},
            originals=[original(capture.id) for capture in captures],
        )


def original(capture: str, content: bytes = PHOTO) -> Original:
    """The bytes of a capture as the packer wants them."""
    return Original(
        capture=capture,
        media_type="image/jpeg",
        content=Measured(sha256=sha256_hex(content), size_bytes=len(content)),
        pieces=lambda: [content],
    )


def world_with_photo() -> tuple[World, SignedStatement]:
    """A deployment that enrolled a server and a device and sealed one photo."""
    world = World()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    capture = world.photo()
    world.status()
    return world, capture


def written(contents: Contents) -> io.BytesIO:
    """The package's bytes."""
    out = io.BytesIO()
    write_package(contents, out)
    return out


def plain_file(name: str) -> zipfile.ZipInfo:
    """A member's header as packages have it."""
    info = zipfile.ZipInfo(name)  # 1980-01-01
    info.external_attr = 0o100644 << 16
    return info


def stamped(
    world: World,
    capture: SignedStatement,
    authority: Authority,
    captures: list[SignedStatement] | None = None,
) -> Contents:
    """A package whose checkpoint and whose capture's signature carry time-stamps."""
    contents = world.contents(captures or [capture])
    note = parse_tlog_proof(contents.statements[0].proof).checkpoint
    covered = [timestamped_message(note, world.log.origin), capture.signature]
    return replace(
        contents,
        timestamps={message: [token(authority, message)] for message in covered},
    )


def token(authority: Authority, message: bytes) -> bytes:
    """A token over a message, of the tests' time."""
    return Making(
        authority=authority, message=message, gen_time=NOW.replace(microsecond=0)
    ).response()


def pinned(authority: Authority) -> PinnedRoot:
    """The authority's root, as known keys pin it."""
    return PinnedRoot(name="test authority", certificate=authority.root.der)
