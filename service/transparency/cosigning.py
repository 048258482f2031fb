"""The word of a witness: it cosigns a checkpoint only if nothing was taken back.

Does: keeps the newest checkpoint of each log that it was told about, demands a consistency
proof from it to the next one, makes the next one durable, and only then answers with its
cosignatures (Ed25519 and ML-DSA-44); keeps what a log signed against its own history, which
may prove misconduct. Refuses: logs that it does not know, checkpoints that
their log did not sign, smaller or different trees, to start without its memory, and to sign
while its clock runs behind a time that it has signed before.

    POST /add-checkpoint          "old <size>", proof lines, an empty line, a checkpoint
    GET  /<origin hash>/checkpoint

`service.transparency.witness` makes one and serves it.

Source: C2SP tlog-witness 1.0.0, tlog-cosignature 1.1. `sign-subtree`, which is optional, is
not there.
"""

import re
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from evidence.errors import (
    CheckpointInvalid,
    FieldInvalid,
    NoteInvalid,
    ProofInvalid,
    SignatureInvalid,
    TooLarge,
)
from evidence.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency
from evidence.schema import decode_base64
from evidence.tlog.checkpoint import (
    MAX_SIZE,
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    parse_checkpoint_body,
)
from evidence.tlog.cosignature import Cosigner
from evidence.tlog.note import Note, NoteSignature, VerifierKey, parse_note, signature_line
from service.private_files import create_private
from service.transparency.loopback import Answer, plain

MAX_BODY_BYTES: Final = 128 * 1024  # sixteen ML-DSA-44 lines are 53 KiB
MAX_PROOF_LINES: Final = 63
MAX_CONTRADICTIONS: Final = 64  # of each log; whoever can make more of them has its key
SIZE_TYPE: Final = "text/x.tlog.size"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_GET = re.compile(r"/([0-9a-f]{64})/checkpoint")
_BUSY_S: Final = 10.0

_SCHEMA: Final = """
CREATE TABLE seen (
    origin_hash TEXT NOT NULL PRIMARY KEY,  -- SHA-256 of the origin, hex
    size INTEGER NOT NULL,                  -- of the latest cosigned checkpoint
    root BLOB NOT NULL,
    note BLOB NOT NULL,                     -- with the log's verified lines and our own
    cosigned_at_s INTEGER NOT NULL          -- POSIX seconds, as signed
) STRICT
"""
_SCHEMA_OF_CONTRADICTIONS: Final = """
CREATE TABLE IF NOT EXISTS contradictions (
    origin_hash TEXT NOT NULL,
    size INTEGER NOT NULL,                  -- of the checkpoint that was refused with 422
    root BLOB NOT NULL,
    note BLOB NOT NULL,                     -- it, with the log's verified lines alone
    held BLOB,                              -- the one that we had cosigned by then
    refused_at_s INTEGER NOT NULL,
    PRIMARY KEY (origin_hash, size, root)
) STRICT
"""


class WitnessRefused(Exception):
    """The folder holds no witness that can be served, or none can be made of this."""


class _Refused(Exception):
    """Ends a request with the status that tlog-witness names for it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Submission:
    """A parsed request: the size that the log thinks we know, the proof, the note."""

    old_size: int
    proof: tuple[bytes, ...]
    data: bytes
    note: Note


class Witness:
    """One witness: its keys, the logs that it knows, its memory. Safe to call from threads."""

    def __init__(
        self,
        database: Path,
        cosigner: Cosigner,
        log_keys: Callable[[], Sequence[VerifierKey]],
        clock: Callable[[], float],
    ) -> None:
        """Open a witness on the memory that it had.

        Args:
            database: the file that `create_memory` made, once.
            cosigner: its name and keys.
            log_keys: tells those of every log that it cosigns, anew for each request; a key's
                name is the log's origin. May raise `WitnessRefused` or OSError: 503.
            clock: POSIX seconds; the time that the cosignatures state.

        Raises:
            FileNotFoundError: the memory is gone. A witness that began anew would cosign what
                it has sworn never to cosign; make another one, with another name and key.
        """
        if not database.is_file():
            raise FileNotFoundError(f"The witness's memory is not at {database}.")
        self._database = database
        self._cosigner = cosigner
        self._log_keys = log_keys
        self._clock = clock

    @property
    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        """The keys under which its cosignatures verify."""
        return self._cosigner.verifier_keys

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer `POST add-checkpoint`.

        1. Read the request (400), find the log (404), verify its signature (403).
        2. The old size is not above the checkpoint's (400).
        3. In one write transaction: the old size is the one that we cosigned last (409, with
           it); the proof leads from that tree to this one (422); cosign; remember; commit.
        4. Answer with the cosignatures. Whoever missed the answer is told the size by a 409
           and gets new cosignatures for the same tree.

        Args:
            body: the request's body, whatever it is.

        Returns:
            200 with one note signature line for each key, or the refusal.
        """
        try:
            submission = _parse(body)  # 1
            signed = self._open(submission)
            if submission.old_size > signed.checkpoint.size:  # 2
                raise _Refused(plain(400, "The old size is above the checkpoint's."))
            return self._cosign_or_keep(submission, signed)  # 3, 4
        except _Refused as refusal:
            return refusal.answer

    def checkpoint(self, origin_hash: str) -> Answer:
        """Answer `GET <origin hash>/checkpoint` with the newest checkpoint that we cosigned."""
        with closing(_connect(self._database)) as connection:
            row = connection.execute(
                "SELECT note FROM seen WHERE origin_hash = ?", (origin_hash,)
            ).fetchone()
        if row is None:
            return plain(404, "No checkpoint of this log was cosigned here.")
        return Answer(status=200, body=row[0])

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Answer any request to this witness."""
        found = _GET.fullmatch(path)
        try:
            if method == "POST" and path == "/add-checkpoint":
                return self.add_checkpoint(body)
            if method == "GET" and found:
                return self.checkpoint(found[1])
        except sqlite3.OperationalError:  # the disk is full, or another process holds the file
            return _later("The witness cannot reach its memory now.")
        except (OSError, WitnessRefused):  # somebody edits them at this moment
            return _later("The witness cannot read which logs it knows.")
        return plain(404, "There is nothing here.")

    def _open(self, submission: _Submission) -> SignedCheckpoint:
        """Verify the log's signature; a tree of size zero has one root."""
        origin, *rest = submission.note.text.split("\n")
        known = [key for key in self._log_keys() if key.name == origin]
        if not known:
            raise _Refused(plain(404, "This log is not known here."))
        try:
            return open_checkpoint(submission.data, known, require=frozenset())
        except SignatureInvalid as exc:
            raise _Refused(plain(403, "No known key of the log made this checkpoint.")) from exc
        except CheckpointInvalid as exc:
            if _is_empty_tree_with_a_root(rest):
                raise _Refused(plain(422, "An empty tree has another root.")) from exc
            raise _Refused(plain(400, "The note is no checkpoint.")) from exc

    def _cosign_or_keep(self, submission: _Submission, signed: SignedCheckpoint) -> Answer:
        """Cosign; what contradicts the log's own history is kept before it is refused."""
        try:
            return self._cosign(submission, signed)
        except _Refused as refusal:
            if refusal.answer.status == 422:
                self._keep(signed)
            raise

    def _keep(self, signed: SignedCheckpoint) -> None:
        checkpoint = signed.checkpoint
        key = sha256(checkpoint.origin.encode()).hexdigest()
        with self._transaction() as connection:
            connection.execute(_SCHEMA_OF_CONTRADICTIONS)
            [kept] = connection.execute(
                "SELECT count(*) FROM contradictions WHERE origin_hash = ?", (key,)
            ).fetchone()
            if kept < MAX_CONTRADICTIONS:
                connection.execute(
                    "INSERT OR IGNORE INTO contradictions VALUES (?, ?, ?, ?,"
                    " (SELECT note FROM seen WHERE origin_hash = ?), ?)",
                    (
                        key,
                        checkpoint.size,
                        checkpoint.root,
                        Note(text=signed.note.text, signatures=_own_lines(signed)).encode(),
                        key,
                        int(self._clock()),
                    ),
                )

    def _cosign(self, submission: _Submission, signed: SignedCheckpoint) -> Answer:
        checkpoint = signed.checkpoint
        key = sha256(checkpoint.origin.encode()).hexdigest()
        with self._transaction() as connection:
            size, root, last_s = connection.execute(
                "SELECT size, root, cosigned_at_s FROM seen WHERE origin_hash = ?", (key,)
            ).fetchone() or (0, EMPTY_ROOT, 0)
            if submission.old_size != size:
                raise _Refused(
                    Answer(status=409, body=f"{size}\n".encode(), content_type=SIZE_TYPE)
                )
            _check_consistency(size, root, checkpoint, submission.proof)
            at_s = int(self._clock())
            if at_s < max(last_s, 1):  # a cosignature says: the largest tree seen as of then
                raise _Refused(_later("The witness's clock is behind what it has signed."))
            lines = self._cosigner.cosign(checkpoint, at_s)
            note = Note(text=signed.note.text, signatures=(*_own_lines(signed), *lines)).encode()
            connection.execute(
                "INSERT INTO seen VALUES (?, ?, ?, ?, ?) ON CONFLICT (origin_hash) DO UPDATE SET"
                " size = excluded.size, root = excluded.root, note = excluded.note,"
                " cosigned_at_s = excluded.cosigned_at_s",
                (key, checkpoint.size, checkpoint.root, note, at_s),
            )
        return Answer(status=200, body="".join(map(signature_line, lines)).encode())

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """Hold the one write lock from the first read on; durable when it ends well."""
        with closing(_connect(self._database)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection  # an exception leaves without COMMIT: closing rolls back
            connection.execute("COMMIT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a witness remembers of one log.

    Attributes:
        size: leaves of the newest checkpoint that it cosigned; 0 before the first.
        note: that checkpoint, or None.
        contradictions: (refused note, the note that was held then) of what it refused with 422.
    """

    size: int
    note: bytes | None
    contradictions: tuple[tuple[bytes, bytes | None], ...]


def read_memory(database: Path, origin: str) -> Memory:
    """Read what is remembered of a log; changes nothing and may be asked while it serves.

    Raises:
        FileNotFoundError: the memory is gone.
    """
    if not database.is_file():
        raise FileNotFoundError(f"The witness's memory is not at {database}.")
    key = (sha256(origin.encode()).hexdigest(),)
    with closing(_connect(database)) as connection:
        size, note = connection.execute(
            "SELECT size, note FROM seen WHERE origin_hash = ?", key
        ).fetchone() or (0, None)
        contradictions = connection.execute(
            "SELECT note, held FROM contradictions WHERE origin_hash = ? ORDER BY refused_at_s", key
        ).fetchall()
    return Memory(size=size, note=note, contradictions=tuple(contradictions))


def create_memory(database: Path) -> None:
    """Make the empty memory of a new witness, durable on return.

    Raises:
        FileExistsError: there is one; a witness never forgets.
    """
    create_private(database, b"")
    with closing(_connect(database)) as connection:
        connection.execute(_SCHEMA)
        connection.execute(_SCHEMA_OF_CONTRADICTIONS)


def _connect(database: Path) -> sqlite3.Connection:
    """Open the memory for reading and writing; never make it.

    One file and no WAL beside it, so that a copy of the file is a copy of the memory. EXTRA
    also syncs the folder when the journal goes: else a power cut could bring it back and undo
    what was answered.
    """
    connection = sqlite3.connect(
        f"{database.resolve().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S, isolation_level=None
    )
    connection.execute("PRAGMA synchronous = EXTRA")
    return connection


def _own_lines(signed: SignedCheckpoint) -> tuple[NoteSignature, ...]:
    """The verified lines of the log itself."""
    return tuple(
        line for line in signed.note.signatures if any(key.made(line) for key in signed.log_keys)
    )


def _parse(body: bytes) -> _Submission:
    """Read the request, or refuse it as malformed (400)."""
    head, blank, data = body.partition(b"\n\n")
    if len(body) > MAX_BODY_BYTES or not blank:
        raise _Refused(plain(400, "The request has no checkpoint after an empty line."))
    try:
        first, *rest = head.decode("ascii").split("\n")
        old = _OLD.fullmatch(first)
        proof = tuple(map(decode_base64, rest))
        note = parse_note(data)
        parse = None if old is None else int(old[1])
    except (UnicodeDecodeError, FieldInvalid, NoteInvalid, TooLarge) as exc:
        raise _Refused(plain(400, "The request is malformed.")) from exc
    if parse is None or parse > MAX_SIZE:
        raise _Refused(plain(400, "The first line states no old size."))
    if len(proof) > MAX_PROOF_LINES or any(len(node) != HASH_BYTES for node in proof):
        raise _Refused(plain(400, "A proof has at most 63 hashes of 32 bytes."))
    return _Submission(old_size=parse, proof=proof, data=data, note=note)


def _check_consistency(
    size: int, root: bytes, checkpoint: Checkpoint, proof: Sequence[bytes]
) -> None:
    try:
        verify_consistency(size, root, checkpoint.size, checkpoint.root, proof)
    except ProofInvalid as exc:
        raise _Refused(plain(422, "The checkpoint does not extend the one seen before.")) from exc


def _is_empty_tree_with_a_root(lines: Sequence[str]) -> bool:
    """Whether a refused checkpoint is only wrong in that: its form holds for a larger tree."""
    if lines[:1] != ["0"]:
        return False
    try:
        parse_checkpoint_body("\n".join(("origin", "1", *lines[1:])))
    except CheckpointInvalid:
        return False
    return True


def _later(sentence: str) -> Answer:
    return Answer(status=503, body=f"{sentence}\n".encode(), retry_after_s=1)
