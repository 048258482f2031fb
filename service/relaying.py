"""How statements travel between nodes: written for the log's leader, read there, and answered.

    request   items (statement, signature, key, when received), guard, effects
    answer    a receipt or a refusal for each item with the checkpoints, or one fault for all

What must hold and what is to be written beside a statement is data: `GUARDS` and `EFFECTS` name
every sort that may travel. Does: writes and reads both. Refuses to believe a request: every
signature is verified again, and a refusal is read only if it is one of ours. Both ends are nodes
of one deployment and, during an upgrade, of two versions: a tag or a member that this version does
not know is a fault of the request, and its node may ask the next leader.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType, ModuleType
from typing import Any

import msgspec

import evidence.errors
import service.law.refusals
import storage.errors
from evidence.errors import EvidenceError
from evidence.statement import SignedStatement
from service.admission import Admission, Judge, Nothing
from service.captures.adopting import Recovered
from service.captures.announce import LeaveWork
from service.captures.inspection import Inspected
from service.captures.reading import NotYetViewed, Window
from service.captures.workflow import Sealed, StillLeased
from service.exports.workflow import Requested
from service.law.refusals import Refusal
from service.logs import get_logger
from service.retention.deeds import Approved
from service.retention.disposing import Disposed
from service.retention.standing import StillAllowed
from storage.errors import StorageError
from storage.log import Outcome, Receipt, Submission

GUARDS = StillLeased | NotYetViewed | StillAllowed
EFFECTS = (
    Nothing | LeaveWork | Sealed | Inspected | Recovered | Window | Requested | Approved | Disposed
)
_INTERNAL = "internal"
_log = get_logger("relaying")


class _Item(msgspec.Struct, frozen=True, array_like=True):
    raw: bytes
    signature: bytes
    key_id: str
    public_key: bytes
    received_at: datetime


class _Request(msgspec.Struct, frozen=True, array_like=True):
    items: tuple[_Item, ...]
    guard: GUARDS | None
    effects: EFFECTS


class _Receipt(msgspec.Struct, frozen=True, array_like=True, tag=0):
    statement_id: str
    key_id: str
    index: int
    received_at: datetime
    size: int
    hashes: tuple[bytes, ...]


class _Refusal(msgspec.Struct, frozen=True, array_like=True, tag=1):
    code: str
    detail: str
    pointer: str


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    outcomes: tuple[_Receipt | _Refusal, ...]
    checkpoints: dict[int, bytes]
    fault: _Refusal | None


class LeaderMistake(Exception):
    """The node that leads the log made a mistake; its own log tells which."""


class Relaying:
    """The courier of one organ's log; see `storage.log.Courier`."""

    def __init__(self, admission: Admission) -> None:
        """Write and read for one log.

        Args:
            admission: its door.
        """
        self._admission = admission
        self._encoder = msgspec.msgpack.Encoder()
        self._requests = msgspec.msgpack.Decoder(_Request)
        self._answers = msgspec.msgpack.Decoder(_Answer)

    def pack(self, submission: Submission) -> bytes:
        """Write a submission that the admission made.

        Raises:
            TypeError: another one: a mistake.
        """
        judge, effects = submission.admit, submission.effects
        if not isinstance(judge, Judge) or not isinstance(effects, EFFECTS):
            raise TypeError("what must hold for a statement is no data that can travel")
        if judge.guard is not None and not isinstance(judge.guard, GUARDS):
            raise TypeError("what must hold for a statement is no data that can travel")
        items = tuple(
            _Item(
                one.signed.raw,
                one.signed.signature,
                one.signed.key_id,
                one.public_key,
                one.received_at,
            )
            for one in submission.items
        )
        return self._encoder.encode(_Request(items, judge.guard, effects))

    def unpack(self, request: bytes) -> Submission:
        """Read a submission and verify every statement in it again.

        Raises:
            ValueError: it is none of ours.
            EvidenceError, Refusal: a statement in it is not what its node would have handed on.
        """
        read = self._requests.decode(request)
        opened = tuple(
            self._admission.open_again(
                SignedStatement(raw=one.raw, signature=one.signature, key_id=one.key_id),
                one.public_key,
                one.received_at,
            )
            for one in read.items
        )
        return self._admission.submission(opened, read.effects, read.guard)

    def pack_answer(self, answer: Sequence[Outcome] | Exception) -> bytes:
        """Write what the log answered."""
        if isinstance(answer, Exception):
            return self._encoder.encode(_Answer((), {}, _refusal(answer)))
        outcomes = tuple(
            _refusal(one) if isinstance(one, Exception) else _receipt(one) for one in answer
        )
        notes = {one.size: one.checkpoint for one in answer if isinstance(one, Receipt)}
        return self._encoder.encode(_Answer(outcomes, notes, None))

    def unpack_answer(self, answer: bytes) -> list[Outcome] | Exception:
        """Read it.

        Raises:
            ValueError: no leader would have written it.
        """
        read = self._answers.decode(answer)
        if read.fault is not None:
            return _raised(read.fault)
        return [
            _raised(one) if isinstance(one, _Refusal) else _handed_on(one, read.checkpoints)
            for one in read.outcomes
        ]


def _receipt(one: Receipt) -> _Receipt:
    return _Receipt(one.statement_id, one.key_id, one.index, one.received_at, one.size, one.hashes)


def _handed_on(one: _Receipt, notes: Mapping[int, bytes]) -> Receipt:
    if one.size not in notes:
        raise ValueError("a receipt without its checkpoint")
    return Receipt(
        statement_id=one.statement_id,
        key_id=one.key_id,
        index=one.index,
        received_at=one.received_at,
        size=one.size,
        hashes=one.hashes,
        checkpoint=notes[one.size],
    )


def _refusal(error: Exception) -> _Refusal:
    if isinstance(error, EvidenceError | Refusal):
        return _Refusal(error.code, error.detail, error.pointer)
    if isinstance(error, StorageError):
        return _Refusal(error.code, error.detail, "")
    _log.error("relay_mistake", exc_info=error)
    return _Refusal(_INTERNAL, "", "")


def _raised(refusal: _Refusal) -> Exception:
    sort = _SORTS.get(refusal.code)
    if sort is None:
        return LeaderMistake("the node that leads this log made a mistake")
    of_store = issubclass(sort, StorageError)
    error: Exception = (
        sort(refusal.detail) if of_store else sort(refusal.detail, pointer=refusal.pointer)
    )
    return error


def _named(module: ModuleType, root: type[Any]) -> dict[str, type[Any]]:
    """The errors of a module that are of one family, by their codes."""
    sorts: list[type[Any]] = [one for one in vars(module).values() if isinstance(one, type)]
    return {str(one.code): one for one in sorts if issubclass(one, root)}


_SORTS: Mapping[str, type[Any]] = MappingProxyType(
    {
        **_named(evidence.errors, EvidenceError),
        **_named(service.law.refusals, Refusal),
        **_named(storage.errors, StorageError),
    }
)
