"""Announcing: signed statements in, receipts out, before any content.

Does: reads the wire form item by item, hands it to admission, and writes the answer so that the
same request gives the same bytes for ever: first receipts, stored checkpoints, no times. Refuses
to let one bad item sink the rest.
"""

import base64
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, cast

import msgspec
from sqlalchemy import Connection

from evidence.errors import EvidenceError
from evidence.statement import SignedStatement, from_wire
from service.captures.arrivals import STORE
from service.captures.queries import add_uploads
from service.captures.shapes import AnnouncedItem, AnnouncementAnswer
from service.context import Organ
from service.law.refusals import Refusal
from service.problems import occurrence_of
from service.work.queue import State, add_pieces
from storage.log import Appended, Outcome, Receipt

if TYPE_CHECKING:
    from evidence.canonical import JSONValue


def hand_in(organ: Organ, items: Sequence[object]) -> Future[list[Outcome]]:
    """Hand statements in.

    Args:
        organ: for which the sender acts.
        items: 1 to 200 in the wire form, not yet read.

    Returns:
        A future of one outcome for each.

    Raises:
        StorageError: the log takes nothing now.
    """
    handed_in = [_read_item(item) for item in items]
    return organ.admission.submit_signed(handed_in, LeaveWork(log=organ.log_id, organ=organ.id))


def write_answer(organ: Organ, outcomes: Sequence[Outcome]) -> AnnouncementAnswer:
    """Receipts and problems in request order, each checkpoint once; nothing that changes.

    Raises:
        Exception: an outcome that is neither a receipt nor an error of ours: a mistake.
    """
    checkpoints: dict[str, str] = {}
    items: list[AnnouncedItem] = []
    for outcome in outcomes:
        if isinstance(outcome, Receipt):
            checkpoints[str(outcome.size)] = outcome.checkpoint.decode("utf-8")
            items.append(_receipt(organ, outcome))
        elif isinstance(outcome, EvidenceError | Refusal):
            items.append(AnnouncedItem(problem=occurrence_of(outcome).document()))
        else:
            raise outcome
    return AnnouncementAnswer(items=items, checkpoints=checkpoints)


def _read_item(item: object) -> SignedStatement | Exception:
    try:
        return from_wire(cast("JSONValue", item))  # the body was JSON
    except EvidenceError as error:
        return error


def _receipt(organ: Organ, receipt: Receipt) -> AnnouncedItem:
    return AnnouncedItem(
        id=receipt.statement_id,
        log=organ.origin,
        index=receipt.index,
        tree_size=receipt.size,
        inclusion_proof=[base64.b64encode(one).decode("ascii") for one in receipt.hashes],
    )


class LeaveWork(msgspec.Struct, frozen=True, kw_only=True, tag="leave_work"):
    """What is to be done once the content is here, in the transaction of the announcement.

    Two of one organ are equal, so the log asks only one of them for all that a batch holds.

    Attributes:
        log: id of the log.
        organ: the organ.
    """

    log: str
    organ: str

    def __call__(self, connection: Connection, appended: list[Appended], /) -> None:
        """Write the rows of what was newly announced."""
        captures = [
            one.pending.statement for one in appended if one.pending.statement.kind == "capture"
        ]
        if not captures:
            return
        at = appended[0].pending.received_at
        add_uploads(connection, self.log, captures, at)
        add_pieces(
            connection,
            log=self.log,
            organ=self.organ,
            kind=STORE,
            subjects=[capture.id for capture in captures],
            at=at,
            state=State.HELD,
        )
