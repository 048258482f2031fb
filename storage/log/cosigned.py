"""What witnesses added to our checkpoints, and which checkpoint enough of them have seen.

Does: verifies and keeps cosignatures, shows a checkpoint with its cosignature lines, and finds
the newest one that satisfies a policy. Refuses: a line that does not verify, when it comes and
again whenever it is shown. One that was kept and no longer verifies is told and left out, as if it
had never come: an older or newer checkpoint serves instead. Asking witnesses is somebody else's
work, and so is deciding which policy counts.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from evidence.errors import EvidenceError, SignatureInvalid
from evidence.tlog.checkpoint import Checkpoint, open_checkpoint
from evidence.tlog.cosignature import verify_cosignature
from evidence.tlog.note import NoteSignature, VerifierKey, parse_signature_line, signature_line
from evidence.tlog.policy import Policy, Witnessing
from storage import records
from storage.errors import IntegrityAlarm, NotFound
from storage.log.submission import LogStores
from storage.records import StoredCosignature

LOOKED_AT = 4096
"""How many of the newest cosigned checkpoints are considered."""

_REMEMBERED = 16_384

Damaged = Callable[[StoredCosignature], None]
"""Told of a kept line that does not verify, once for each line of a process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignedCheckpoint:
    """A checkpoint that satisfies a policy.

    Attributes:
        size: number of leaves.
        note: the log's note with every cosignature line known so far.
        witnessing: what the policy's witnesses say.
    """

    size: int
    note: bytes
    witnessing: Witnessing


def read_line(
    row: StoredCosignature, checkpoint: Checkpoint, keys: Sequence[VerifierKey]
) -> NoteSignature:
    """A kept line, if it is what its row says and verifies under those of these keys that made it.

    Args:
        row: as it is kept.
        checkpoint: of its size, ours.
        keys: of known witnesses; a line of another key is only read.

    Raises:
        EvidenceError: the line is malformed, is not the row's, or does not verify.
    """
    line = parse_signature_line(row.line)
    said = (line.name, line.key_id.hex(), int.from_bytes(line.value[:8]))
    if said != (row.witness, row.witness_key, row.at_s):
        raise SignatureInvalid("the row of a cosignature is not what its line says")
    for key in keys:
        if key.made(line):
            verify_cosignature(checkpoint, line, key)
    return line


class Cosignatures:
    """The cosignatures of one log. Threads may share it."""

    def __init__(self, stores: LogStores, organ: str, log_keys: Sequence[VerifierKey]) -> None:
        """Look at a log's cosignatures.

        Args:
            stores: of the log.
            organ: of the log.
            log_keys: the log's own public keys.
        """
        self._stores = stores
        self._organ = organ
        self._log_keys = tuple(log_keys)
        self._witness_keys: tuple[VerifierKey, ...] = ()
        self._damaged: Damaged = _tell_nobody
        self._too_few: dict[tuple[bytes, int], int] = {}
        self._sound: set[StoredCosignature] = set()
        self._told: set[StoredCosignature] = set()
        self._turn = threading.Lock()

    def expect(self, witness_keys: Iterable[VerifierKey], damaged: Damaged) -> None:
        """Know whose lines are verified before they are shown; before this is called, nobody's.

        Args:
            witness_keys: from the policy that counts here.
            damaged: told of lines that do not verify, in whatever thread finds them.
        """
        self._witness_keys = tuple(witness_keys)
        self._damaged = damaged

    def add(
        self,
        size: int,
        lines: Iterable[NoteSignature],
        witness_keys: Sequence[VerifierKey],
        at: datetime,
    ) -> int:
        """Verify cosignatures of one of our checkpoints and keep them.

        Args:
            size: of a published checkpoint.
            lines: as a witness answered them.
            witness_keys: from the policy; lines of other keys are dropped.
            at: when they came, UTC.

        Returns:
            How many lines are kept now that were verified here; one that was kept before counts.

        Raises:
            NotFound: no checkpoint of this size was signed.
            SignatureInvalid: a line of a known key does not verify; nothing was kept.
        """
        checkpoint = open_checkpoint(self._own_note(size), self._log_keys).checkpoint
        verified = [
            StoredCosignature(
                size=size,
                witness=key.name,
                witness_key=key.key_id.hex(),
                line=signature_line(line).removesuffix("\n"),
                at_s=verify_cosignature(checkpoint, line, key),
                received_at=at,
            )
            for line in lines
            for key in witness_keys
            if key.made(line)
        ]
        with self._stores.db.write() as connection:
            records.add_cosignatures(connection, self._stores.log_id, self._organ, verified)
        return len(verified)

    def note(self, size: int) -> bytes:
        """Our note of this size followed by the sound cosignature lines known so far.

        Raises:
            NotFound: no checkpoint of this size was signed.
            IntegrityAlarm: our own note no longer verifies: the database was damaged.
        """
        return self._shown(size, self._witness_keys)[0]

    def newest(self, above: int, policy: Policy) -> CosignedCheckpoint | None:
        """The largest checkpoint with more than `above` leaves that satisfies a policy.

        A checkpoint whose kept lines or whose own note no longer verify counts for what is sound
        of it, so that an older one may be the answer.

        Args:
            above: index of the leaf that it must cover.
            policy: its witnesses and their quorum; the log's keys are our own.

        Returns:
            None where too few have cosigned so far.
        """
        name = policy.encode()
        with self._stores.db.read() as connection:
            sizes = records.cosigned_sizes(
                connection, self._stores.log_id, above=above, limit=LOOKED_AT
            )
        for size, lines in sizes:
            if self._too_few.get((name, size)) == lines:
                continue  # judged before, and nobody has cosigned since
            try:
                note, whole = self._shown(size, tuple(policy.witnesses.values()))
                witnessing = policy.judge(open_checkpoint(note, self._log_keys))
            except (EvidenceError, IntegrityAlarm, NotFound):
                continue  # our own note is damaged or gone: fsck names it
            if witnessing.satisfied:
                return CosignedCheckpoint(size=size, note=note, witnessing=witnessing)
            if whole:  # what is damaged may be mended, and the number of lines would not tell
                self._remember(name, size, lines)
        return None

    def _shown(self, size: int, keys: Sequence[VerifierKey]) -> tuple[bytes, bool]:
        """Our note with its sound lines, and whether that is all of them."""
        note = self._own_note(size)
        with self._stores.db.read() as connection:
            rows = records.cosignatures_of(connection, self._stores.log_id, size)
        if not rows:
            return note, True
        try:
            checkpoint = open_checkpoint(note, self._log_keys).checkpoint
        except EvidenceError as error:
            raise IntegrityAlarm("a signed checkpoint no longer verifies") from error
        sound = [row for row in rows if self._holds(row, checkpoint, keys)]
        lines = "".join(f"{row.line}\n" for row in sound)
        return note + lines.encode(), len(sound) == len(rows)

    def _holds(
        self, row: StoredCosignature, checkpoint: Checkpoint, keys: Sequence[VerifierKey]
    ) -> bool:
        """Whether a kept line may be shown; a line that was verified here is not verified again."""
        known = any((key.name, key.key_id.hex()) == (row.witness, row.witness_key) for key in keys)
        if known and row in self._sound:
            return True
        try:
            read_line(row, checkpoint, keys)
        except EvidenceError:
            if self._first(row, self._told):
                self._damaged(row)
            return False
        if known:
            self._first(row, self._sound)
        return True

    def _first(self, row: StoredCosignature, seen: set[StoredCosignature]) -> bool:
        """Remember a row; whether it is new there."""
        with self._turn:
            if row in seen:
                return False
            if len(seen) >= _REMEMBERED:
                seen.clear()
            seen.add(row)
            return True

    def _remember(self, name: bytes, size: int, lines: int) -> None:
        with self._turn:
            if len(self._too_few) >= 2 * LOOKED_AT:
                self._too_few.clear()
            self._too_few[name, size] = lines

    def _own_note(self, size: int) -> bytes:
        with self._stores.db.read() as connection:
            signed = records.checkpoints_of(connection, self._stores.log_id, [size])
        if size not in signed:
            raise NotFound("no checkpoint of this size was signed")
        return signed[size].note


def _tell_nobody(_row: StoredCosignature) -> None:
    """Nobody wants to know of damaged lines."""
