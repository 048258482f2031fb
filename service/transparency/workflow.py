"""What happens to a log after it is published: witnesses cosign, authorities stamp.

    1. the publisher wakes this thread; a second later at most it looks at what is published
    2. each witness is asked for the newest published checkpoint that it has not cosigned
    3. each authority is asked for a token over a checkpoint that enough witnesses have cosigned,
       or over the published one where no witness is named
    4. who does not answer is asked again, later each time; the others are not waited for
    5. an authority that answers again makes up for what the others stamped without it, oldest
       first; a newer checkpoint covers the older ones, so witnesses make up for nothing

Does: keeps what comes once it verifies, and counts what is owed. Refuses to go on when a witness
has seen more than we have: the log is then halted, for our state is an old copy; and to have
anybody vouch for a log that is not confirmed yet, which may be one. What is missing is shown as
missing.
"""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import httpx

from evidence.errors import EvidenceError
from evidence.timestamp import read_response, verify_timestamp
from evidence.tlog.checkpoint import timestamped_message
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy
from service.captures.workflow import STAMP
from service.context import Context, Organ
from service.deployment_file import AuthoritySettings, WitnessSettings
from service.logs import get_logger
from service.proofs import (
    count_owed,
    newest_cosigned,
    newest_stamped_size,
    owed_checkpoints,
)
from service.transparency.tsa_client import AuthorityUnavailable, request_timestamp
from service.transparency.witness_client import (
    WitnessAddress,
    WitnessAhead,
    WitnessRefusal,
    WitnessUnavailable,
    submit,
)
from service.work.queue import Piece, finish_piece, revive_pieces
from service.work.worker import Failures, Task
from storage import records
from storage.errors import NotFound, StorageError, Unavailable
from storage.records import Stamped, StoredTimestamp

TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0
_LOOK_S = 5.0
_MADE_UP_AT_ONCE = 16
"""So many missing time-stamps are fetched of an authority before the others have their turn."""

_log = get_logger("transparency")


@dataclass(slots=True)
class _Party:
    """How it goes with one witness or authority."""

    done_size: int = 0
    failures: int = 0
    again_at: float = field(default=0.0)
    nothing_owed_up_to: int = 0
    owed: int = 0

    @property
    def ready(self) -> bool:
        """Whether it may be asked now."""
        return time.monotonic() >= self.again_at

    def due(self, size: int) -> bool:
        """Whether it should be asked about a tree of this size now."""
        return size > self.done_size and self.ready

    def succeeded(self, size: int) -> None:
        """It answered for this size."""
        self.done_size, self.failures, self.again_at = max(size, self.done_size), 0, 0.0

    def failed(self) -> None:
        """It did not; wait longer each time."""
        pause_s = min(_FIRST_PAUSE_S * 2**self.failures, _LONGEST_PAUSE_S)
        self.failures += 1
        self.again_at = time.monotonic() + pause_s


def witness_names(policy: Policy | None, witness: WitnessSettings) -> frozenset[str]:
    """The names under which a policy knows a witness's keys.

    A policy names each key of a witness with more than one by the witness's name, a hyphen and a
    number, and its group by the name alone.
    """
    if policy is None:
        return frozenset()
    names = {witness.name}
    for group in policy.groups:
        if group.name == witness.name:
            names.update(group.members)
    return frozenset(names.intersection(policy.witnesses))


def witness_keys(policy: Policy | None, witness: WitnessSettings) -> tuple[VerifierKey, ...]:
    """The keys that a policy knows for a witness."""
    if policy is None:
        return ()
    names = witness_names(policy, witness)
    return tuple(key for name, key in policy.witnesses.items() if name in names)


class Attesting:
    """One thread that asks witnesses and authorities about every log."""

    def __init__(self, context: Context, published: threading.Event) -> None:
        """Prepare; `start` begins.

        Args:
            context: logs, witnesses and authorities.
            published: set whenever a log was published.
        """
        self._context = context
        self._parties: dict[tuple[str, str], _Party] = {}
        self._due = published
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="attesting", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """End after the question at hand."""
        self._closing.set()
        self._due.set()
        if self._thread.ident is not None:
            self._thread.join()

    def attest(self, organ: Organ) -> bool:
        """Ask everybody who is due about one log; returns whether somebody still owes an answer.

        Only the node that leads the log asks; whoever takes it over goes on.
        """
        status = organ.log.status()
        if not status.leads:
            return False
        size = status.published_size
        if size == 0 or not status.confirmed:
            return False
        for witness in organ.settings.witnesses:
            party = self._party(organ, f"witness {witness.name}")
            if party.due(size):
                self._ask(party, size, lambda w=witness, s=size: self._cosign(organ, w, s))
        stamped = self._stampable(organ, size)
        for authority in organ.settings.authorities:
            party = self._party(organ, f"authority {authority.name}")
            if stamped and party.due(stamped):
                self._ask(party, stamped, lambda a=authority, s=stamped: self._stamp(organ, a, s))
            self._make_up(organ, authority, party)
        self._count()
        return any(
            party.done_size < size or party.owed
            for (log, _), party in self._parties.items()
            if log == organ.log_id
        )

    def _run(self) -> None:
        while not self._closing.is_set():
            owing = False
            for organ in self._context.organs.values():
                try:
                    owing = self.attest(organ) or owing
                # Parties' faults are caught where they are asked. What is left (no database, a
                # mistake) is one organ's, and must not end the thread that attests them all.
                except Exception as error:  # noqa: BLE001 - told, and tried again at the next look
                    _log.error("attesting_stalled", log=organ.log_id, exc_info=error)
                    owing = True
            self._due.wait(_FIRST_PAUSE_S if owing else _LOOK_S)
            self._due.clear()

    def _party(self, organ: Organ, name: str) -> _Party:
        return self._parties.setdefault((organ.log_id, name), _Party())

    def _make_up(self, organ: Organ, authority: AuthoritySettings, party: _Party) -> None:
        """Step 5 for one authority; what it owes is in the database, so no start forgets it."""
        log, name = organ.log_id, authority.name
        with self._context.db.read() as connection:
            newest = newest_stamped_size(connection, log)
            after = party.nothing_owed_up_to
            owed = owed_checkpoints(connection, log, name, above=after, limit=_MADE_UP_AT_ONCE)
        for size in owed:
            stamp = partial(self._stamp, organ, authority, size)
            if not party.ready or not self._ask(party, size, stamp):
                break
            party.nothing_owed_up_to = size
        else:
            if len(owed) < _MADE_UP_AT_ONCE:
                party.nothing_owed_up_to = max(newest, party.nothing_owed_up_to)
        after = party.nothing_owed_up_to
        with self._context.db.read() as connection:
            party.owed = count_owed(connection, log, name, above=after)

    def _count(self) -> None:
        """Show who is silent and what is owed, over all logs."""
        metrics = self._context.metrics
        names = {name for _, name in self._parties}
        for name in names:
            parties = [party for (_, other), party in self._parties.items() if other == name]
            metrics.silent.labels(name).set(max(party.failures for party in parties))
            kind, _, authority = name.partition(" ")
            if kind == "authority":
                metrics.timestamps_owed.labels(authority).set(sum(one.owed for one in parties))

    def _ask(self, party: _Party, size: int, question: Callable[[], None]) -> bool:
        """Ask; returns whether it answered, and what it answered holds."""
        try:
            question()
        except (
            WitnessUnavailable,
            WitnessRefusal,
            AuthorityUnavailable,
            EvidenceError,
            StorageError,
            httpx.HTTPError,
        ) as error:
            party.failed()
            _log.warning("attestation_missing", reason=type(error).__name__, size=size)
            return False
        party.succeeded(size)
        return True

    def _cosign(self, organ: Organ, witness: WitnessSettings, size: int) -> None:
        keys = witness_keys(organ.policy, witness)
        address = WitnessAddress(url=witness.url, keys=keys)
        with self._context.db.read() as connection:
            note = records.checkpoints_of(connection, organ.log_id, [size])[size].note
        try:
            cosigned = submit(
                address,
                note,
                organ.log_keys,
                old_size=self._party(organ, f"witness {witness.name}").done_size,
                prove=organ.log.consistency,
                timeout_s=TIMEOUT_S,
            )
        except WitnessAhead as error:
            _log.error("log_behind_witness", log=organ.log_id, size=size, seen=error.size)
            if error.size > organ.log.latest().size:
                organ.log.halt("a witness has seen more of this log than we have")
            raise WitnessUnavailable("The witness has seen a newer checkpoint.") from error
        organ.log.cosignatures.add(size, cosigned.lines, keys, self._context.clock())

    def _stampable(self, organ: Organ, size: int) -> int:
        """The checkpoint that is worth a token now, or 0."""
        if not organ.settings.witnesses:
            return size
        cosigned = newest_cosigned(organ, 0)
        return 0 if cosigned is None else cosigned.size

    def _stamp(self, organ: Organ, authority: AuthoritySettings, size: int) -> None:
        with self._context.db.read() as connection:
            held = records.timestamps_of(connection, organ.log_id, Stamped.CHECKPOINT, size)
            note = records.checkpoints_of(connection, organ.log_id, [size])[size].note
        if authority.name in {stamp.tsa for stamp in held}:
            return
        message = timestamped_message(note, organ.origin)
        fetch_token(self._context, organ, authority, message, (Stamped.CHECKPOINT, size))
        if self._party(organ, f"authority {authority.name}").failures:
            with self._context.db.write() as connection:  # it was away: captures waited in vain
                at = self._context.clock()
                revive_pieces(connection, organ.log_id, STAMP, Unavailable.code, at)


class Stamping:
    """Fetches time-stamps over captures' own signatures, which Sigstore verifiers want."""

    def __init__(self, context: Context) -> None:
        """Prepare for one context."""
        self._context = context

    def task(self) -> Task:
        """The work that storing releases."""
        return Task(kind=STAMP, do=self.stamp, batch=8)

    def stamp(self, pieces: Sequence[Piece]) -> Failures:
        """Fetch a token of every authority of the organ for each capture."""
        failures: dict[Piece, Exception] = {}
        for piece in pieces:
            try:
                self._stamp(self._context.organs[piece.organ], piece)
            except (StorageError, EvidenceError) as error:
                failures[piece] = error
            except AuthorityUnavailable as error:
                fault = Unavailable("a time-stamp authority does not answer")
                fault.__cause__ = error
                failures[piece] = fault
        return failures

    def _stamp(self, organ: Organ, piece: Piece) -> None:
        with self._context.db.read() as connection:
            record = records.find_record(connection, organ.log_id, piece.subject)
            if record is None:
                raise NotFound("the capture of this work is not there")
            held = records.timestamps_of(connection, organ.log_id, Stamped.SIGNATURE, record.index)
        have = {stamp.tsa for stamp in held}
        place = (Stamped.SIGNATURE, record.index)
        silent: AuthorityUnavailable | None = None
        for authority in organ.settings.authorities:
            if authority.name not in have:
                try:
                    fetch_token(self._context, organ, authority, record.signature, place)
                except AuthorityUnavailable as error:
                    silent = error  # the others' tokens are kept; this one is fetched later
        if silent is not None:
            raise silent
        with self._context.db.write() as connection:
            finish_piece(connection, piece)


def fetch_token(
    context: Context,
    organ: Organ,
    authority: AuthoritySettings,
    message: bytes,
    place: tuple[Stamped, int],
) -> None:
    """Ask an authority for a token, verify it under the pinned roots, and keep it.

    Raises:
        AuthorityUnavailable: it does not answer.
        EvidenceError: what it answers does not hold.
    """
    nonce = secrets.randbits(63)
    response = request_timestamp(authority.url, message, nonce, TIMEOUT_S)
    verify_timestamp(response, message, organ.roots, nonce=nonce)
    stamp = StoredTimestamp(
        subject_kind=place[0],
        position=place[1],
        tsa=authority.name,
        response=response,
        gen_time=read_response(response).gen_time,
        received_at=context.clock(),
    )
    with context.db.write() as connection:
        records.add_timestamp(connection, organ.log_id, organ.id, stamp)
