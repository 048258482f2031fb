"""A log's operator with the log's real keys, who can show whatever he likes over real HTTP."""

import hashlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.errors import TileInvalid
from evidence.keys import P256Signer
from evidence.known_keys import KnownKeys, KnownLog, write_known_keys
from evidence.leaf import leaf_of
from evidence.merkle import EMPTY_ROOT, Frontier, hash_leaf, inclusion_proof, tree_root
from evidence.tlog.checkpoint import Checkpoint, LogSigner
from evidence.tlog.cosignature import Cosigner
from evidence.tlog.note import Note, parse_note
from evidence.tlog.policy import LogLine, Policy
from evidence.tlog.proof import TlogProof
from evidence.tlog.tiles import TILE_HEIGHT, encode_bundle, parse_tile_path
from service.transparency.loopback import Answer, LoopbackServer, Request, plain
from tests.transparency.running import running

ORIGIN = "log.example/county-7/2026"
NOW_S = 1_800_000_000
_KEY = P256Signer.generate().public_key


class History:
    """Entries in one order; the tree at any size is at hand."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        """Hash all of them."""
        self.entries = list(entries)
        self.nodes: dict[tuple[int, int], bytes] = {}
        frontier = Frontier.empty()
        for entry in entries:
            for level, index, digest in frontier.append(hash_leaf(entry)):
                self.nodes[level, index] = digest

    def node(self, level: int, index: int) -> bytes:
        """A complete subtree's hash."""
        return self.nodes[level, index]

    def root(self, size: int) -> bytes:
        """The root at a size."""
        return tree_root(size, self.node) if size else EMPTY_ROOT

    def file(self, path: str) -> bytes | None:
        """A tile or bundle, or None where there is no such file."""
        try:
            name = parse_tile_path(path)
        except TileInvalid:
            return None
        first = name.index * 256
        if name.level is None:
            found = self.entries[first : first + name.width]
            return encode_bundle(found) if len(found) == name.width else None
        places = [(TILE_HEIGHT * name.level, first + n) for n in range(name.width)]
        return (
            b"".join(map(self.node, *zip(*places, strict=True)))
            if all(place in self.nodes for place in places)
            else None
        )


def history(count: int, *, flavour: str = "a", since: int = 0) -> History:
    """So many entries; from `since` on they are of another flavour than everybody else's."""
    words = [f"{flavour if n >= since else 'a'} {n}" for n in range(count)]
    return History([entry(word) for word in words])


def entry(word: str) -> bytes:
    """A leaf of ours."""
    return leaf_of(hashlib.sha256(word.encode()).hexdigest(), b"\x30" + word.encode(), _KEY)


@dataclass(kw_only=True)
class Operator:
    """What he shows now.

    Attributes:
        history: the entries.
        size: of the checkpoint.
        note: what he serves as the checkpoint, where it is not the signed one of `size`.
        edited: files whose bytes he replaced, by path.
        gone: paths that he does not serve.
        cosigned: whether the witness's line is under the checkpoint.
        signed_at_s: when he says that he signed.
        broken: whether he answers 500 to everything.
    """

    history: History
    size: int
    note: bytes | None = None
    edited: dict[str, bytes] = field(default_factory=dict[str, bytes])
    gone: set[str] = field(default_factory=set[str])
    cosigned: bool = True
    signed_at_s: int = NOW_S
    broken: bool = False
    asked: list[str] = field(default_factory=list[str])
    signer: LogSigner = field(
        default_factory=lambda: LogSigner(
            ORIGIN, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()
        )
    )
    witness: Cosigner = field(
        default_factory=lambda: Cosigner(
            "witness.example/west", Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()
        )
    )

    def show(self, history: History, size: int, **more: object) -> None:
        """Show another tree, with nothing edited."""
        self.history, self.size = history, size
        self.note, self.edited, self.gone = None, {}, set()
        for name, value in more.items():
            setattr(self, name, value)

    def checkpoint(self, history: History | None = None, size: int | None = None) -> bytes:
        """The signed note of a tree, by default of the one that he shows."""
        size = self.size if size is None else size
        tree = Checkpoint(
            origin=self.signer.origin, size=size, root=(history or self.history).root(size)
        )
        note = self.signer.sign(tree, self.signed_at_s)
        if not self.cosigned:
            return note
        own = parse_note(note)
        lines = self.witness.cosign(tree, self.signed_at_s)
        return Note(text=own.text, signatures=(*own.signatures, *lines)).encode()

    def receipt(self, index: int, size: int) -> bytes:
        """What he promises of an entry of the history that he shows."""
        hashes = tuple(inclusion_proof(index, size, self.history.node))
        note = self.signer.sign(
            Checkpoint(origin=self.signer.origin, size=size, root=self.history.root(size)), NOW_S
        )
        return TlogProof(index=index, hashes=hashes, checkpoint=note).encode()

    def answer(self, request: Request) -> Answer:
        """Answer a request for a file."""
        path = request.path.removeprefix("/logs/main/")
        self.asked.append(path)
        if self.broken:
            return plain(500, "broken")
        if path in self.gone:
            return plain(404, "gone")
        if path == "checkpoint":
            return Answer(status=200, body=self.note or self.checkpoint())
        body = self.edited.get(path, self.history.file(path))
        return plain(404, "none") if body is None else Answer(status=200, body=body)

    @contextmanager
    def serving(self) -> Generator[str]:
        """Serve; yields the log's address."""
        server = LoopbackServer(self.answer, 0, max_body_bytes=0, max_connections=64)
        with running(server) as url:
            yield f"{url}logs/main/"

    def known_log(self, *, witnessed: bool = True) -> KnownLog:
        """What a stranger pins of his log."""
        key = self.witness.verifier_keys[0]
        policy = Policy(
            logs=tuple(LogLine(key=one) for one in self.signer.verifier_keys),
            witnesses={"west": key} if witnessed else {},
            groups=(),
            quorum="west" if witnessed else "none",
        )
        return KnownLog(
            origin=self.signer.origin,
            keys=self.signer.verifier_keys,
            ml_dsa_from=datetime(2026, 1, 1, tzinfo=UTC),
            policy=policy,
        )

    def known_keys_file(self, path: Path, *, expires: datetime | None = None) -> Path:
        """The same as a trust file."""
        root = P256Signer.generate()
        log = self.known_log()
        content = KnownKeys(
            sha256="",
            version=1,
            audience="test",
            expires=expires or datetime.now(UTC) + timedelta(days=1),
            root_threshold=1,
            root_keys=(root.public_key,),
            registrars=(),
            logs={log.origin: log},
            tsa_roots=(),
        )
        path.write_bytes(write_known_keys(content, [root]))
        return path
