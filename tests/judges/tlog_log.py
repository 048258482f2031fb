"""A log as static files, written with `evidence` alone, for judges to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.merkle import Frontier, hash_leaf
from evidence.tlog.checkpoint import Checkpoint, LogSigner
from evidence.tlog.cosignature import Cosigner
from evidence.tlog.note import signature_line
from evidence.tlog.tiles import TileName, encode_bundle, tiles_of

AT_S = 1_795_000_000
"""A time in 2026: judges that compare with their own clock are told to take old ones."""


@dataclass(frozen=True, kw_only=True)
class WrittenLog:
    """Where the log lies and who signed it.

    Attributes:
        folder: has `checkpoint`, `tile/…` and the older checkpoints as `checkpoint-<size>`.
        entries: the log entries.
        signer: the log's two keys.
        witnesses: each cosigned every checkpoint with two keys.
        nodes: complete subtrees by (level, index).
    """

    folder: Path
    entries: Sequence[bytes]
    signer: LogSigner
    witnesses: tuple[Cosigner, ...]
    nodes: dict[tuple[int, int], bytes]

    def node(self, level: int, index: int) -> bytes:
        """Answer as a NodeReader."""
        return self.nodes[level, index]


def make_signer() -> LogSigner:
    """A log's signer with fresh keys."""
    return LogSigner(
        "log.example/judged", Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()
    )


def write_log(
    folder: Path, entries: Sequence[bytes], sizes: Sequence[int], signer: LogSigner
) -> WrittenLog:
    """Write a log that produced a checkpoint at each of these sizes.

    Args:
        folder: empty.
        entries: at least as many as the largest size.
        sizes: ascending; the last one becomes `checkpoint`, the others `checkpoint-<size>`.
        signer: the log's keys; the witnesses' are made here.
    """
    log = WrittenLog(
        folder=folder,
        entries=entries[: sizes[-1]],
        signer=signer,
        witnesses=tuple(
            Cosigner(name, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
            for name in ("witness-1.example", "witness-2.example")
        ),
        nodes={},
    )
    frontier = Frontier.empty()
    for entry in log.entries:
        for level, index, value in frontier.append(hash_leaf(entry)):
            log.nodes[level, index] = value
        if frontier.size in sizes:
            _publish(log, frontier, latest=frontier.size == sizes[-1])
    return log


def _publish(log: WrittenLog, frontier: Frontier, *, latest: bool) -> None:
    """Write the tiles and bundles of this size, then the checkpoint with all cosignatures."""
    for name in (*tiles_of(frontier.size), *tiles_of(frontier.size, entries=True)):
        path = log.folder / name.path()
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_content(log, name))
    checkpoint = Checkpoint(origin=log.signer.origin, size=frontier.size, root=frontier.root())
    lines = [line for witness in log.witnesses for line in witness.cosign(checkpoint, AT_S)]
    note = log.signer.sign(checkpoint, AT_S) + "".join(map(signature_line, lines)).encode()
    file = "checkpoint" if latest else f"checkpoint-{frontier.size}"
    (log.folder / file).write_bytes(note)


def _content(log: WrittenLog, name: TileName) -> bytes:
    start, end = 256 * name.index, 256 * name.index + name.width
    if name.level is None:
        return encode_bundle(log.entries[start:end])
    return b"".join(log.nodes[8 * name.level, place] for place in range(start, end))
