"""Following a capture after it was sent, and the log itself, without believing either blindly.

Does: asks how far a capture has come, and verifies what a device can verify itself: that a quorum
of the pinned witnesses has cosigned a checkpoint that covers it, and that the log only ever grew
since the last contact. Refuses to take the server's word for `witnessed`; where a rung is the
server's word, `Progress` says so by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from evidence.errors import EvidenceError, QuorumMissing
from evidence.known_keys import KnownLog
from evidence.tlog.checkpoint import SignedCheckpoint
from evidence.tlog.proof import parse_tlog_proof
from evidence.tlog.tiles import TileName, TileReader
from service.client.api import Api
from service.client.failures import ReceiptRefused, ServerRefused
from service.client.journal import Entry, Journal
from service.client.receipts import open_known_checkpoint, require_extension, verify_receipt


class _Rung(msgspec.Struct, frozen=True):
    rung: str
    outcome: str


class _Content(msgspec.Struct, frozen=True):
    state: str


class _View(msgspec.Struct, frozen=True):
    """What a device reads of `GET /v1/captures/{id}`."""

    ladder: tuple[_Rung, ...]
    content: _Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a capture has come.

    Attributes:
        taken: whether the server says that it has the content.
        server_says: names of the rungs that the server calls passed.
    """

    taken: bool
    server_says: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """Everything that following needs.

    Attributes:
        api: the server.
        journal: holds the newest cosigned checkpoint of the log.
        public_key: the device's, DER SubjectPublicKeyInfo.
        log: the pinned log.
        log_id: its id in addresses.
        clock: now, UTC.
    """

    api: Api
    journal: Journal
    public_key: bytes
    log: KnownLog
    log_id: str
    clock: Callable[[], datetime]

    def progress(self, capture: str) -> Progress:
        """What the server says about a capture.

        Raises:
            ServerRefused, Undecided: it does not say.
        """
        view = self.api.get(f"/v1/captures/{capture}", _View)
        passed = frozenset(rung.rung for rung in view.ladder if rung.outcome == "pass")
        return Progress(taken=view.content.state != "announced", server_says=passed)

    def is_witnessed(self, entry: Entry) -> bool:
        """Whether enough pinned witnesses have cosigned a checkpoint that covers it, verified here.

        Such a checkpoint is kept as the newest that this device holds.

        Raises:
            ReceiptRefused: what the server shows as proof does not hold.
        """
        try:
            path = f"/v1/captures/{entry.id}/proof"
            raw = self.api.get_bytes(path, {"min": "witnessed"}, once=True)
        except ServerRefused as refused:
            if refused.code == "proof_pending":
                return False
            raise
        try:
            proof = parse_tlog_proof(raw)
            signed = verify_receipt(proof, entry.signed, self.public_key, self.log, self.clock())
            self.log.policy.require(signed)
        except QuorumMissing:
            return False
        except EvidenceError as error:
            raise ReceiptRefused(f"The witnessed proof does not hold. {error.detail}") from error
        self.journal.keep_checkpoint(self.log.origin, signed.checkpoint.size, proof.checkpoint)
        return True

    def greet(self) -> int | None:
        """Demand, at each contact, that the log still contains what it once showed.

        Returns:
            The size of the log's published checkpoint, or None where nothing is published yet.

        Raises:
            ReceiptRefused: the log went back, or shows another history.
        """
        held = self.journal.checkpoint(self.log.origin)
        try:
            note = self.api.get_bytes(f"/logs/{self.log_id}/checkpoint")
        except ServerRefused as refused:
            if refused.status != 404:
                raise
            if held is not None:
                raise ReceiptRefused("The log that this device knows has disappeared.") from refused
            return None
        newer = self._open(note)
        if held is not None:
            reader = TileReader(self._tile, newer.checkpoint.size)
            require_extension(self._open(held), newer, reader)
        if self._quorum(newer):
            self.journal.keep_checkpoint(self.log.origin, newer.checkpoint.size, note)
        return newer.checkpoint.size

    def _open(self, note: bytes) -> SignedCheckpoint:
        try:
            return open_known_checkpoint(note, self.log, self.clock())
        except EvidenceError as error:
            raise ReceiptRefused(f"The log's checkpoint does not hold. {error.detail}") from error

    def _quorum(self, signed: SignedCheckpoint) -> bool:
        try:
            return self.log.policy.judge(signed).satisfied
        except EvidenceError as error:
            raise ReceiptRefused(f"A cosignature does not hold. {error.detail}") from error

    def _tile(self, name: TileName) -> bytes:
        return self.api.get_bytes(f"/logs/{self.log_id}/{name.path()}")
