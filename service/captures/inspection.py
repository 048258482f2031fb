"""Inspection: what the tools read in stored content, stated as the server's opinion.

    1. read the object in the sandbox
    2. keep the full output as an object, named by its digest
    3. compare it with the claim; differences are recorded, not judged
    4. state `inspected`, while the lease holds

Does: one piece after the other. Refuses to fail because of a file: a decoder that dies is what is
stated. Refuses to delay anything: the content was sealed before.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from evidence.errors import EvidenceError
from evidence.media.claims import Discrepancy, compare
from evidence.statement import About, SignedStatement, parse_statement
from service.captures.queries import newest_about
from service.captures.reading import Held, Reading
from service.captures.sandbox import InspectionResult, Sandbox, SandboxUnavailable
from service.captures.sealing import Placed, class_for, digest_for_staging, let_go, place
from service.captures.workflow import INSPECT, StillLeased
from service.contents import FACTS
from service.context import Context, Organ
from service.custody import require_logged
from service.law.refusals import Refusal
from service.problems import Problem
from service.proofs import read_signed
from service.work.queue import Piece, finish_piece
from service.work.worker import Failures, Task
from storage import records
from storage.errors import NotFound, StorageError, Unavailable
from storage.log import Appended
from storage.objects import StoredObject

if TYPE_CHECKING:
    from evidence.canonical import JSONObject

OUTPUT_PREFIX = "facts-"
"""Staging keys of outputs begin with it."""

_BATCH = 16
_MOST_FINDINGS = 64
_OUTPUT_TYPE = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One inspection, ready to be stated."""

    held: Held
    previous: str | None
    result: InspectionResult
    differences: tuple[Discrepancy, ...]
    output: StoredObject | None
    output_sealed: bool


class Inspecting:
    """Inspects stored content."""

    def __init__(self, context: Context, reading: Reading, sandbox: Sandbox) -> None:
        """Prepare.

        Args:
            context: stores and organs.
            reading: finds stored content.
            sandbox: reads it.
        """
        self._context = context
        self._reading = reading
        self._sandbox = sandbox

    def task(self, gives_way: Callable[[], bool]) -> Task:
        """The work that storing releases; opinions wait while content is being sealed."""
        slots = self._context.settings.inspect_workers
        return Task(kind=INSPECT, do=self.inspect, batch=_BATCH, slots=slots, gives_way=gives_way)

    def inspect(self, pieces: Sequence[Piece]) -> Failures:
        """Do each piece; see the module's procedure."""
        failures: dict[Piece, Exception] = {}
        for piece in pieces:
            try:
                self._inspect(self._context.organs[piece.organ], piece)
            except (StorageError, EvidenceError, Refusal) as error:
                failures[piece] = error
            except (SandboxUnavailable, Problem, OSError) as error:
                fault = Unavailable("the content could not be inspected")
                fault.__cause__ = error
                failures[piece] = fault
        return failures

    def _inspect(self, organ: Organ, piece: Piece) -> None:
        seen = self._look(organ, piece)
        made = [self._statement(organ, seen)]
        logged = organ.admission.submit_own(
            made, guard=StillLeased(pieces=(piece,)), effects=Inspected(piece=piece)
        )
        require_logged(logged.result())

    def _look(self, organ: Organ, piece: Piece) -> _Seen:
        held = self._reading.find(organ, piece.subject)
        with self._reading.as_file(held) as file:
            result = self._sandbox.inspect(file, held.size_bytes, held.media_type)
        with self._context.db.read() as connection:
            record = records.find_record(connection, organ.log_id, held.capture)
            if record is None:
                raise NotFound("the capture of this work is not there")
            claim = read_signed(connection, record)[0]
            previous = newest_about(connection, organ.log_id, held.capture)
        facts = result.facts_json
        placed = self._keep(organ, claim, held, facts) if facts else None
        return _Seen(
            held=held,
            previous=previous,
            result=result,
            differences=tuple(
                compare(_object(msgspec.json.decode(claim.raw)["body"]), _decode(facts))
                if facts
                else ()
            ),
            output=None if placed is None else placed.stored,
            output_sealed=placed is not None and placed.sealed,
        )

    def _keep(self, organ: Organ, claim: SignedStatement, held: Held, output: bytes) -> Placed:
        """Make an object of the full output: it tells of the content, so it is kept alike."""
        capture, context = held.capture, self._context
        mode = str(parse_statement(claim.raw).body["mode"])
        kind = class_for(context, organ.settings, mode)
        sha256 = hashlib.sha256(output).hexdigest()
        with context.staging.begin(
            OUTPUT_PREFIX + capture,
            len(output),
            sha256=digest_for_staging(sha256, kind),
        ) as writer:
            writer.write(output)
            staged = writer.finish()
        placed = place(context, organ.origin, capture + FACTS, staged, kind, context.clock())
        if placed.sealed:
            let_go(staged)
        return placed

    def _statement(self, organ: Organ, seen: _Seen) -> SignedStatement:
        result = seen.result
        body: JSONObject = {
            "input_sha256": seen.held.sha256,
            "outcome": result.outcome,
            "tools": [
                {"name": tool.name, "version": tool.version, "sha256": tool.sha256}
                for tool in result.tools
            ],
            "isolation": list(result.isolation),
            "facets": [
                {"facet": facet, "state": state.value} for facet, state in result.states.items()
            ],
            "findings": [
                {"code": one.code, "facet": one.facet} if one.facet else {"code": one.code}
                for one in result.findings[:_MOST_FINDINGS]
            ],
            "discrepancies": [_difference(one) for one in seen.differences[:_MOST_FINDINGS]],
        }
        if seen.output is not None:
            body["output"] = {
                "sha256": hashlib.sha256(result.facts_json).hexdigest(),
                "size_bytes": len(result.facts_json),
                "media_type": _OUTPUT_TYPE,
            }
        if seen.output is not None and seen.output_sealed:
            lies: JSONObject = {"name": seen.output.name}
            if seen.output.version is not None:
                lies["version"] = seen.output.version
            body["output_object"] = lies
        about = About(statement=seen.held.capture, log=organ.origin, index=seen.held.index)
        return organ.admission.make("inspected", body, about, seen.previous)


class Inspected(msgspec.Struct, frozen=True, kw_only=True, tag="inspected"):
    """The piece is done in the transaction of its statement.

    Attributes:
        piece: as leased.
    """

    piece: Piece

    def __call__(self, connection: Connection, _appended: list[Appended], /) -> None:
        """End it."""
        finish_piece(connection, self.piece)


def _difference(one: Discrepancy) -> "JSONObject":
    members: JSONObject = {"code": one.code}
    if one.difference is not None:
        members["difference"] = one.difference
    if one.unit:
        members["unit"] = one.unit
    return members


def _decode(raw: bytes) -> dict[str, object]:
    return msgspec.json.decode(raw, type=dict[str, object])


def _object(value: object) -> dict[str, object]:
    return msgspec.convert(value, dict[str, object])
