"""`fengni scrub`: a sample of what is kept is re-hashed, oldest first, and the result is logged.

1. What the log names is taken up into the table `holdings`; a run begins with the log.
2. The contents that were looked at longest ago are read and hashed, past every cache that can be
   asked, as the very version that the statement names, until a bound is reached.
3. One that is gone or holds other bytes, and was not disposed of, is told at once: in the server's
   log, in `fengni_scrubbed`, and by a `custody` statement about its capture (`rehashed`).
4. Where a second store is configured it is mended from there, and that is stated too (`recovered`).
   A bucket gives the right bytes a new version; a new `stored` statement names it.
5. A `check` statement says how many there are, how many were looked at and bad, and how many of
   the others can be bad at 95 % confidence. It names a report that lists every content.

Does: one run, for each organ. Refuses: to state a sample that was cut short as whole; to mend in
silence; to take bytes from the second store that are not the right ones; to count twice: what a
run looked at before it was killed is in no sample, and the next run goes on behind it.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from evidence.canonical import JSONObject, JSONValue
from evidence.statement import parse_statement
from service.context import Context, Organ
from service.custody import require_logged
from service.objects import open_second
from service.scrub.alarm import mend, tell
from service.scrub.holdings import Holding, count_of, due, note, superseded, take_up
from service.scrub.sampling import most_bad
from storage import records
from storage.errors import IntegrityAlarm, NotFound, StorageError
from storage.objects import ObjectStore

REPORT_TYPE = "application/x-ndjson"
_BATCH = 64
_MOST = 100_000
"""So many contents at most in one run: its report is one object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much one run re-hashes; whichever is reached first ends it, after one content at least.

    Attributes:
        size_bytes: bytes.
        count: contents.
        seconds: time.
        ended: asked after each content whether the process ends.
    """

    size_bytes: int
    count: int = _MOST
    seconds: float = 4 * 3600.0
    ended: Callable[[], bool] = lambda: False


@dataclass(slots=True, kw_only=True)
class Scrubbed:
    """What one run found for one organ.

    Attributes:
        organ: its id.
        population: how many contents its logs name.
        outcomes: how many of those that were looked at are ok, damaged, missing, repaired,
            disposed or unreadable.
        size_bytes: how much was hashed.
        bad_at_most: how many of the others are bad at most, at 95 % confidence.
        looked_at: each with its outcome.
    """

    organ: str
    population: int
    outcomes: Counter[str] = field(default_factory=Counter[str])
    size_bytes: int = 0
    bad_at_most: int = 0
    looked_at: list[tuple[Holding, str]] = field(default_factory=list[tuple[Holding, str]])

    @property
    def bad(self) -> int:
        """How many were not what they should be, mended or not."""
        return sum(self.outcomes[word] for word in ("damaged", "missing", "repaired"))

    def document(self) -> dict[str, object]:
        """The same as JSON."""
        return {
            "organ": self.organ,
            "population": self.population,
            "looked_at": len(self.looked_at),
            "outcomes": dict(sorted(self.outcomes.items())),
            "size_bytes": self.size_bytes,
            "bad_of_the_rest_at_most_95": self.bad_at_most,
        }


def scrub_once(context: Context, bounds: Bounds) -> list[Scrubbed]:
    """Do the steps of the module once for each organ.

    Args:
        context: open, with logs that take statements.
        bounds: for each organ.

    Raises:
        SettingsInvalid: the second store's settings are wrong.
        StorageError: a log takes nothing now, or the database does not answer.
    """
    return [scrub_organ(context, organ, bounds) for organ in context.organs.values()]


def scrub_organ(context: Context, organ: Organ, bounds: Bounds) -> Scrubbed:
    """Do the steps of the module for one organ; raises as `scrub_once`."""
    return _Run(context, organ, open_second(context.settings, context.clock), bounds).run()


class _Run:
    """One run for one organ."""

    def __init__(
        self, context: Context, organ: Organ, second: ObjectStore | None, bounds: Bounds
    ) -> None:
        self._context = context
        self._organ = organ
        self._second = second
        self._bounds = bounds
        self._begun_at = context.clock()
        self._ends = time.monotonic() + bounds.seconds

    def run(self) -> Scrubbed:
        """Do the steps of the module."""
        context, organ = self._context, self._organ
        organ.log.require_taking()
        for log in organ.settings.logs:
            take_up(context.db, context.objects, log.id, organ.id)  # 1
        with context.db.read() as connection:
            result = Scrubbed(organ=organ.id, population=count_of(connection, organ.id))
        while piece := self._next(result):  # 2
            noted: list[tuple[Holding, str]] = []
            for one in piece:
                outcome = self._look(one, result)
                noted.append((one, outcome))
                result.looked_at.append((one, outcome))
                result.outcomes[outcome] += 1
                context.metrics.scrubbed.labels(outcome).inc()
                if self._is_enough(result):
                    break
            with context.db.write() as connection:  # else the same would come again
                note(connection, noted, self._begun_at)
        if result.population:
            self._state(result)  # 5
        return result

    def _next(self, result: Scrubbed) -> Sequence[Holding]:
        if self._is_enough(result):
            return ()
        limit = min(_BATCH, min(self._bounds.count, _MOST) - len(result.looked_at))
        with self._context.db.read() as connection:
            return due(connection, self._organ.id, self._begun_at, limit)

    def _is_enough(self, result: Scrubbed) -> bool:
        bounds = self._bounds
        full = result.size_bytes >= bounds.size_bytes or time.monotonic() >= self._ends
        full = full or bounds.ended()
        return bool(result.looked_at) and (
            full or len(result.looked_at) >= min(bounds.count, _MOST)
        )

    def _look(self, one: Holding, result: Scrubbed) -> str:
        """Hash one content; what is bad is told and mended (3, 4)."""
        try:
            sha256, size_bytes = self._context.objects.measure(one.object, one.version)
        except NotFound:
            found = "missing"
        except IntegrityAlarm:
            found = "damaged"
        except StorageError:
            return "unreadable"  # the store is away: no verdict on its bytes
        else:
            result.size_bytes += size_bytes
            if (sha256, size_bytes) == (one.object, one.size_bytes):
                return "ok"
            found = "damaged"
        with self._context.db.read() as connection:
            if _is_disposed(connection, one):
                return "disposed"
            if superseded(connection, one):
                return "ok"  # mended before: a later statement names another version
        tell(self._organ, one, found)
        if self._second is None:
            return found
        return "repaired" if mend(self._context, self._organ, one, self._second) else found

    def _state(self, result: Scrubbed) -> None:
        sample = len(result.looked_at) - result.outcomes["unreadable"]
        result.bad_at_most = most_bad(result.population, sample, result.bad)
        body = check_body(result, sample)
        if result.looked_at:
            body["report"] = self._report(result)
        made = [self._organ.admission.make("check", body)]
        require_logged(self._organ.admission.submit_own(made).result())

    def _report(self, result: Scrubbed) -> JSONObject:
        """An object with one line for each content that was looked at."""
        lines = [
            json.dumps(
                {
                    "log": one.log,
                    "index": one.index,
                    "object": one.object,
                    "version": one.version,
                    "outcome": outcome,
                },
                sort_keys=True,
            )
            for one, outcome in result.looked_at
        ]
        data = "".join(f"{line}\n" for line in lines).encode()
        name = f"scrub-{self._context.new_id()}"
        with self._context.staging.begin(name, len(data)) as writer:
            writer.write(data)
            staged = writer.finish()
        self._context.objects.put_once(staged)
        return {"sha256": staged.sha256, "size_bytes": len(data), "media_type": REPORT_TYPE}


def check_body(result: Scrubbed, sample: int) -> dict[str, JSONValue]:
    """What the `check` statement says.

    Args:
        result: of a run.
        sample: how many contents were read and hashed, or are gone.
    """
    counts: Mapping[str, int] = {
        "scrub_population": result.population,
        "scrub_sample": sample,
        "scrub_rest_bad_at_most_95": result.bad_at_most,
    }
    faults = {f"scrub_{word}": result.outcomes[word] for word in ("damaged", "missing", "repaired")}
    notes: list[JSONValue] = [
        {"code": code, "outcome": "note", "count": count} for code, count in counts.items()
    ]
    unread = result.outcomes["unreadable"]
    if unread:
        notes.append({"code": "scrub_unreadable", "outcome": "note", "count": unread})
    verdicts: list[JSONValue] = [
        {"code": code, "outcome": "fail" if count else "pass", "count": count}
        for code, count in faults.items()
    ]
    lost = result.outcomes["damaged"] + result.outcomes["missing"]
    degraded = "degraded" if result.bad or unread else "pass"
    outcome = "fail" if lost else degraded
    return {"check": "scrub", "outcome": outcome, "results": [*notes, *verdicts]}


def _is_disposed(connection: Connection, one: Holding) -> bool:
    """Whether it was destroyed as the log says, or that has begun; else a mend would undo it.

    Asked only of what is not there or holds other bytes.
    """
    if one.capture is None:
        return False
    for record in records.records_about(connection, one.log, one.capture):
        if record.kind in ("disposed", "custody"):
            raw = records.text_at(connection, one.log, record.index)
            body = parse_statement(raw or b"").body
            contents = body.get("contents")
            if body.get("event") == "disposal_begun":
                return True
            if isinstance(contents, list) and one.object in contents:
                return True
    return False
