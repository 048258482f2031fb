"""A small log in memory, with the proofs that a witness asks for."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.merkle import Frontier, consistency_proof, hash_leaf, tree_root
from evidence.tlog.checkpoint import Checkpoint, LogSigner
from evidence.tlog.note import NoteSignature, parse_signature_line
from service.transparency.loopback import Answer

ORIGIN = "log.example/county-7"
HASH = sha256(ORIGIN.encode()).hexdigest()
NAME = "witness.example/west"
NOW = 1_800_000_000


class SmallLog:
    """A log of as many leaves as were asked for; its tree at any size is at hand."""

    def __init__(self, size: int, *, origin: str = ORIGIN, flavour: bytes = b"leaf") -> None:
        """Grow to `size` leaves; another flavour gives another tree of the same keys."""
        self.signer = LogSigner(origin, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
        self.nodes: dict[tuple[int, int], bytes] = {}
        frontier = Frontier.empty()
        for index in range(size):
            for level, place, digest in frontier.append(hash_leaf(b"%s %d" % (flavour, index))):
                self.nodes[level, place] = digest

    @property
    def vkeys(self) -> list[str]:
        """Return the log's verifier keys as text."""
        return [key.encode() for key in self.signer.verifier_keys]

    def node(self, level: int, index: int) -> bytes:
        """Read a complete subtree's hash."""
        return self.nodes[level, index]

    def checkpoint(self, size: int) -> Checkpoint:
        """Return the unsigned checkpoint of a size."""
        root = tree_root(size, self.node)
        return Checkpoint(origin=self.signer.origin, size=size, root=root)

    def note(self, size: int) -> bytes:
        """Return the signed checkpoint of a size."""
        return self.signer.sign(self.checkpoint(size), 1_700_000_000)

    def prove(self, old: int, new: int) -> list[bytes]:
        """Return the consistency proof between two sizes."""
        return consistency_proof(old, new, self.node)

    def body(self, old: int, new: int) -> bytes:
        """Return the add-checkpoint request from one size to another."""
        return request(old, self.prove(old, new), self.note(new))


def request(old: int | str, proof: Sequence[bytes], note: bytes) -> bytes:
    """Write an add-checkpoint request of any parts."""
    lines = [f"old {old}", *(b64encode(node).decode() for node in proof), "", ""]
    return "\n".join(lines).encode() + note


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        """Return POSIX seconds."""
        return self.now


def lines_of(answer: Answer) -> list[NoteSignature]:
    """Read the signature lines of a 200."""
    assert answer.status == 200
    text = answer.body.decode()
    assert text.endswith("\n")
    return [parse_signature_line(line) for line in text[:-1].split("\n")]


LOG = SmallLog(70)


def forked(size: int) -> SmallLog:
    """Return a log of the same keys with other leaves."""
    other = SmallLog(size, flavour=b"other")
    other.signer = LOG.signer
    return other
