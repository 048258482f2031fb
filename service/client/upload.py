"""`fengni upload`: files become captures that the log holds, and none is lost on the way.

Does, for every file, in this order and each step durable before the next:

0. demand that the log still contains what it showed at the last contact;
1. measure the file;
2. find the statement that an interrupted upload made of the same wish, or make and sign one;
3. announce all statements and verify their receipts under the known keys;
4. send the content of those that the log holds, smallest first;
5. ask how far each has come, as long as the person wants to wait.

Refuses to call anything received before its receipt was verified, and to make a second statement
for a wish that the journal knows.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from evidence.canonical import JSONObject
from evidence.kinds.session import MAX_COSIGNATURE_CHARS, MAX_COSIGNATURES
from evidence.known_keys import KnownLog
from evidence.statement import About, SignedStatement
from evidence.tlog.checkpoint import parse_checkpoint_body
from evidence.tlog.note import COSIGNATURE_ED25519, parse_note, signature_line
from evidence.tlog.proof import parse_tlog_proof
from service.client.announce import Announcer
from service.client.api import Api, Content
from service.client.device import Claim, Device, MeasuredFile, OpenSession, measure_file
from service.client.failures import ClientFailure, Misused, ServerRefused, Undecided
from service.client.following import Follower
from service.client.journal import Entry, Journal

PIECE_BYTES = 1024 * 1024
_POLL_S = 0.25


class Stage(StrEnum):
    """How far a capture has come, as this device knows."""

    REFUSED = "refused"
    ANNOUNCED = "announced"
    RECEIVED = "received"
    STORED = "stored"
    WITNESSED = "witnessed"
    TIME_STAMPED = "time_stamped"

    @property
    def rank(self) -> int:
        """Its place in the order above."""
        return list(Stage).index(self)


_RUNG_OF = {Stage.STORED: "stored", Stage.TIME_STAMPED: "time_stamped"}


class Watcher(Protocol):
    """Somebody who shows how it goes."""

    def measured(self, size_bytes: int) -> None:
        """So many more bytes were hashed."""

    def sent(self, size_bytes: int) -> None:
        """So many more bytes were sent; negative where a file begins again."""

    def finished(self, path: Path) -> None:
        """A file's content was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the person wants done.

    Attributes:
        files: the files, in the order in which they were named.
        claim: what is said of all of them, and of the session.
        own: what is said of single files instead, by their path.
        session: `visit`, `sortie` or `patrol` to put them into a session, or None.
        again: make new statements even where the journal knows the same wish.
        wait_for: how far each should have come before the command ends.
        wait_s: how long to wait for that, in seconds.
    """

    files: tuple[Path, ...]
    claim: Claim
    own: Mapping[Path, Claim] = field(default_factory=dict[Path, Claim])
    session: str | None = None
    again: bool = False
    wait_for: Stage = Stage.RECEIVED
    wait_s: float = 60.0

    def claim_of(self, path: Path) -> Claim:
        """What is said of one file."""
        return self.own.get(path, self.claim)


@dataclass(slots=True, kw_only=True)
class Sent:
    """One file's result.

    Attributes:
        path: the file.
        id: the capture's id.
        size_bytes: its length.
        index: its log index, once a receipt was verified.
        stage: how far it has come.
        trouble: what stands in its way, in one sentence; empty where nothing does.
        code: the trouble's code, where the server gave one.
    """

    path: Path
    id: str
    size_bytes: int
    index: int | None = None
    stage: Stage = Stage.ANNOUNCED
    trouble: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploader:
    """Everything that an upload needs."""

    device: Device
    api: Api
    journal: Journal
    log: KnownLog
    follower: Follower
    clock: Callable[[], datetime]
    watcher: Watcher
    pause: Callable[[float], None] = field(default=time.sleep)

    def upload(self, wish: Wish) -> list[Sent]:
        """Do all the steps.

        Returns:
            One result for each file, in the order of the wish.

        Raises:
            ClientFailure: the upload as a whole could not go on; the same call continues it.
        """
        self.follower.greet()  # 0
        measured = [measure_file(path, self.watcher.measured) for path in wish.files]  # 1
        session = self._session_for(wish, measured) if wish.session else None
        entries = [self._entry(file, wish, session) for file in measured]  # 2
        results = [_begun(entry, file) for entry, file in zip(entries, measured, strict=True)]
        self._announce(entries, results, session)  # 3
        self._send(entries, results)  # 4
        if session is not None:
            self._close_session(session, wish)
        if wish.wait_for.rank > Stage.RECEIVED.rank:
            self._wait(results, wish)  # 5
        return results

    def _entry(self, file: MeasuredFile, wish: Wish, session: OpenSession | None) -> Entry:
        likeness = _likeness(file, wish, None if session is None else session.id)
        known = self.journal.alike(self.device.audience, self.device.signer.key_id, likeness)
        if known and not wish.again:
            return known[0]
        entry = self.device.capture(file, wish.claim_of(file.named), session=session)
        self.journal.add(entry, audience=self.device.audience, likeness=likeness)
        if session is not None:
            session.took(entry)
        return entry

    def _announce(
        self, entries: Sequence[Entry], results: Sequence[Sent], session: OpenSession | None
    ) -> None:
        opening = [] if session is None else [self.journal.get(session.id)]
        refused = self._announcer().announce([*opening, *entries])
        for entry, result in zip(entries, results, strict=True):
            problem = refused.get(entry.id)
            if problem is not None:
                result.stage = Stage.REFUSED
                result.trouble, result.code = problem.sentence, problem.code
            else:
                receipt = self.journal.get(entry.id).receipt
                result.index = None if receipt is None else parse_tlog_proof(receipt).index

    def _send(self, entries: Sequence[Entry], results: Sequence[Sent]) -> None:
        """Smallest first, so that a video does not hold up the photos.

        A refusal is one file's; where the server is away the others need not be tried.
        """
        pairs = [
            pair for pair in zip(entries, results, strict=True) if pair[1].stage is Stage.ANNOUNCED
        ]
        away = ""
        for entry, result in sorted(pairs, key=lambda pair: pair[1].size_bytes):
            try:
                if not entry.sent and away:
                    raise Undecided(away)
                if not entry.sent:
                    self._send_content(entry, result.path)
                    self.journal.mark_sent(entry.id)
            except ServerRefused as problem:
                result.trouble, result.code = problem.detail, problem.code
            except Undecided as failure:
                result.trouble = away = failure.detail
            except ClientFailure as failure:
                result.trouble = failure.detail
            else:
                result.stage = Stage.RECEIVED
                self.watcher.finished(result.path)

    def _send_content(self, entry: Entry, path: Path) -> None:
        if entry.sha256 is None or entry.size_bytes is None:
            raise TypeError("a capture without content is in the journal")
        told = [0]

        def pieces() -> Iterator[bytes]:
            """The file from its start; what was shown of an earlier attempt is taken back."""
            self.watcher.sent(-told[0])
            told[0] = 0
            try:
                with path.open("rb") as stream:
                    while piece := stream.read(PIECE_BYTES):
                        yield piece
                        told[0] += len(piece)
                        self.watcher.sent(len(piece))
            except OSError as error:
                raise Misused(f"{path} cannot be read any more.") from error

        content = Content(
            size_bytes=entry.size_bytes,
            sha256=entry.sha256,
            media_type="application/octet-stream",
            read=pieces,
        )
        self.api.put_content(f"/v1/captures/{entry.id}/content", content)

    def _session_for(self, wish: Wish, measured: Sequence[MeasuredFile]) -> OpenSession:
        """The session that holds all these files already, or one that is still open, or a new one.

        The first makes a repeated command harmless, the second continues an interrupted one.
        """
        likeness = wish.claim.likeness(opens=wish.session)
        key_id = self.device.signer.key_id
        known = [] if wish.again else self.journal.alike(self.device.audience, key_id, likeness)
        opening = next((one for one in known if self._holds_all(one, wish, measured)), None)
        if opening is None:
            still_open = (one for one in known if self.journal.closing_of(one.id) is None)
            opening = next(still_open, None)
        if opening is None:
            opening = Entry(signed=self._sign_opening(wish), kind="session")
            self.journal.add(opening, audience=self.device.audience, likeness=likeness)
        session = OpenSession(id=opening.id, last=opening.id)
        for capture in self.journal.of_session(opening.id):
            session.took(capture)
        return session

    def _holds_all(self, opening: Entry, wish: Wish, measured: Sequence[MeasuredFile]) -> bool:
        key_id = self.device.signer.key_id
        likenesses = [_likeness(file, wish, opening.id) for file in measured]
        return all(self.journal.alike(self.device.audience, key_id, one) for one in likenesses)

    def _sign_opening(self, wish: Wish) -> SignedStatement:
        body: JSONObject = {"phase": "open", "session": str(wish.session)}
        if wish.claim.task is not None:
            body["task"] = wish.claim.task
        if wish.claim.officer is not None:
            body["officers"] = [wish.claim.officer]
        held = self.journal.checkpoint(self.log.origin)
        if held is not None:
            body["checkpoint"] = held_members(held, self.log)
        return self.device.sign("session", body)

    def _close_session(self, session: OpenSession, wish: Wish) -> None:
        """Say how many there were, once the log holds every one of them."""
        if any(capture.receipt is None for capture in self.journal.of_session(session.id)):
            return
        closing = self.journal.closing_of(session.id)
        if closing is None:
            body: JSONObject = {"phase": "close", "session": str(wish.session)}
            body["count"] = session.count
            signed = self.device.sign(
                "session", body, about=About(statement=session.id), previous=session.last
            )
            closing = Entry(signed=signed, kind="session", session=session.id)
            self.journal.add(closing, audience=self.device.audience, likeness=session.id)
        self._announcer().announce([closing])

    def _wait(self, results: Sequence[Sent], wish: Wish) -> None:
        """Ask until each has come as far as wished, or the time is over."""
        deadline = time.monotonic() + wish.wait_s
        waiting = [one for one in results if one.stage is Stage.RECEIVED]
        while waiting:
            for one in waiting:
                one.stage = self._reached(one, wish.wait_for)
            waiting = [one for one in waiting if one.stage is not wish.wait_for]
            if not waiting or time.monotonic() > deadline:
                break
            self.pause(_POLL_S)
        for one in waiting:
            one.trouble = f"Not {wish.wait_for.value} after {wish.wait_s:.0f} s; it will be."

    def _reached(self, one: Sent, wanted: Stage) -> Stage:
        """The highest stage up to the wished one that this capture has reached, each in turn."""
        says = self.follower.progress(one.id).server_says
        stage = Stage.RECEIVED
        for following in (Stage.STORED, Stage.WITNESSED, Stage.TIME_STAMPED):
            if following is Stage.WITNESSED:
                reached = self.follower.is_witnessed(self.journal.get(one.id))
            else:
                reached = _RUNG_OF[following] in says
            if not reached:
                break
            stage = following
            if stage is wanted:
                break
        return stage

    def _announcer(self) -> Announcer:
        return Announcer(
            api=self.api,
            journal=self.journal,
            public_key=self.device.signer.public_key,
            log=self.log,
            clock=self.clock,
        )


def _likeness(file: MeasuredFile, wish: Wish, session: str | None) -> str:
    """Everything that makes a wish about a file the same wish."""
    return wish.claim_of(file.named).likeness(
        sha256=file.content.sha256, name=file.members().get("name"), session=session
    )


def _begun(entry: Entry, file: MeasuredFile) -> Sent:
    return Sent(path=file.path, id=entry.id, size_bytes=file.content.size_bytes)


def held_members(raw: bytes, log: KnownLog) -> JSONObject:
    """A checkpoint as a session's opening names it, with what known witnesses signed of it.

    The lines of type 0x04 alone: one of type 0x06 would fill a quarter of a statement.

    Args:
        raw: the note that the device holds, its log and its witnesses verified.
        log: the pinned log, whose policy says which lines are known witnesses'.

    Returns:
        The member `checkpoint` of an opening `session`.
    """
    note = parse_note(raw)
    checkpoint = parse_checkpoint_body(note.text)
    keys = [key for key in log.policy.witnesses.values() if key.kind == COSIGNATURE_ED25519]
    lines = [
        signature_line(signature).rstrip("\n")
        for signature in note.signatures
        if any(key.made(signature) for key in keys)
    ]
    members: JSONObject = {
        "log": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
    }
    kept = [line for line in lines if len(line) <= MAX_COSIGNATURE_CHARS][:MAX_COSIGNATURES]
    if kept:
        members["cosignatures"] = [*kept]
    return members


def exit_status(results: Sequence[Sent], wish: Wish) -> int:
    """0 if all have come as far as wished, 1 if one was refused, 2 if the same call goes on."""
    if any(one.code for one in results):
        return 1
    return 0 if all(one.stage.rank >= wish.wait_for.rank for one in results) else 2
