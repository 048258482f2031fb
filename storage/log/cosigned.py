"""What witnesses added to our checkpoints, and which checkpoint enough of them have seen.

Does: verifies and keeps cosignatures, shows a checkpoint with its cosignature lines, and finds
the newest one that satisfies a policy. Refuses: a line that does not verify. Asking witnesses is
somebody else's work, and so is deciding which policy counts.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from evidence.errors import EvidenceError
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.cosignature import verify_cosignature
from evidence.tlog.note import NoteSignature, VerifierKey, signature_line
from evidence.tlog.policy import Policy, Witnessing
from storage import records
from storage.errors import IntegrityAlarm, NotFound
from storage.log.submission import LogStores
from storage.records import StoredCosignature

LOOKED_AT = 4096
"""How many of the newest cosigned checkpoints are considered."""


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
        self._too_few: dict[tuple[bytes, int], int] = {}
        self._turn = threading.Lock()

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
        """Our note of this size followed by the cosignature lines known so far.

        Raises:
            NotFound: no checkpoint of this size was signed.
        """
        with self._stores.db.read() as connection:
            lines = records.cosignatures_of(connection, self._stores.log_id, size)
        return self._own_note(size) + "".join(f"{one.line}\n" for one in lines).encode()

    def newest(self, above: int, policy: Policy) -> CosignedCheckpoint | None:
        """The largest checkpoint with more than `above` leaves that satisfies a policy.

        Args:
            above: index of the leaf that it must cover.
            policy: its witnesses and their quorum; the log's keys are our own.

        Returns:
            None where too few have cosigned so far.

        Raises:
            IntegrityAlarm: a kept line no longer verifies: the database was damaged.
        """
        name = policy.encode()
        with self._stores.db.read() as connection:
            sizes = records.cosigned_sizes(
                connection, self._stores.log_id, above=above, limit=LOOKED_AT
            )
        for size, lines in sizes:
            if self._too_few.get((name, size)) == lines:
                continue  # judged before, and nobody has cosigned since
            note = self.note(size)
            try:
                witnessing = policy.judge(open_checkpoint(note, self._log_keys))
            except EvidenceError as error:
                raise IntegrityAlarm("a kept cosignature no longer verifies") from error
            if witnessing.satisfied:
                return CosignedCheckpoint(size=size, note=note, witnessing=witnessing)
            self._remember(name, size, lines)
        return None

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
