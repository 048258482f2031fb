"""Exports: stated first, then made.

    1. request: one custody statement `exported` for each capture, and the export's row, in one
       transaction of the log
    2. make: the server states where the key chain stands; a checkpoint over all of it is waited
       for until witnesses and an authority have answered, or for as long as the settings say
    3. the package is written as a draft, synced, and kept where every node finds it

Does: both. Refuses to export a capture whose content is not stored yet.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

import msgspec
from sqlalchemy import Connection

from evidence.canonical import JSONObject
from evidence.digest import Hasher
from evidence.packing import write_package
from evidence.tlog.note import ED25519
from service.captures.queries import ContentState, find_uploads, newest_about, with_text
from service.contents import Vault
from service.context import Context, Organ
from service.custody import Deed, make_custody, require_logged
from service.exports.build import Shelf, choose_anchor, collect, lay_out
from service.exports.packages import Package, Packages
from service.exports.queries import (
    EXPORT,
    Export,
    ExportState,
    add_export,
    expired_exports,
    find_export,
    is_expired,
    mark_expired,
    mark_ready,
)
from service.law.permissions import Holder
from service.law.refusals import NotAnchored
from service.problems import Problem
from service.webhooks.deliveries import EXPORT_READY, Event, add_deliveries
from service.work.queue import Piece, add_pieces, finish_piece
from service.work.worker import Failures, Task
from storage import records
from storage.errors import NotFound
from storage.log import Appended

_PIECE_BYTES = 1024 * 1024


def request_export(
    context: Context, organ: Organ, holder: Holder, captures: Sequence[str]
) -> Export:
    """State that somebody exports these captures, and leave the making behind; blocks.

    Raises:
        Problem: `capture_unknown`, or `content_pending` where content is not stored.
    """
    export = Export(
        id=context.new_id().replace("-", ""),
        log=organ.log_id,
        organ=organ.id,
        state=ExportState.PENDING,
        requested_by=holder.name,
        captures=tuple(captures),
        created_at=context.clock(),
        sha256=None,
        size_bytes=None,
        expires_at=None,
    )
    made = [make_custody(organ.admission, deed) for deed in _deeds(context, organ, export)]

    require_logged(organ.admission.submit_own(made, effects=Requested(export=export)).result())
    return export


class Requested(msgspec.Struct, frozen=True, kw_only=True, tag="export_requested"):
    """The export exists if and only if its custody statements do.

    Attributes:
        export: pending.
    """

    export: Export

    def __call__(self, connection: Connection, _appended: list[Appended], /) -> None:
        """Write its row, and the work of making it."""
        export = self.export
        add_export(connection, export)
        add_pieces(
            connection,
            log=export.log,
            organ=export.organ,
            kind=EXPORT,
            subjects=[export.id],
            at=export.created_at,
        )


def packages_of(context: Context) -> Packages:
    """Where made packages lie."""
    return Packages(context.places.exports, context.staging)


def expire_packages(context: Context) -> int:
    """Remove packages that have been kept long enough; returns how many.

    Any node removes them from staging that nodes share. What lies in a node's own folder that node
    removes, whoever noted first that the time is over.
    """
    packages = packages_of(context)
    with context.db.read() as connection:
        gone = expired_exports(connection, context.clock())
        mine = [one for one in packages.here() if is_expired(connection, one)]
    for package in gone:
        packages.remove(package)
    for export in mine:
        packages.remove_here(export)
    if gone:
        with context.db.write() as connection:
            mark_expired(connection, [package.export for package in gone])
    return len(gone)


class Exporting:
    """Makes packages."""

    def __init__(self, context: Context) -> None:
        """Prepare for one context."""
        self._context = context

    def task(self) -> Task:
        """The work that requests leave behind."""
        return Task(kind=EXPORT, do=self.make)

    def make(self, pieces: Sequence[Piece]) -> Failures:
        """Make the package of one export; see the module's procedure."""
        [piece] = pieces
        organ = self._context.organs[piece.organ]
        with self._context.db.read() as connection:
            export = find_export(connection, piece.log, piece.subject)
        if export is None:
            raise NotFound("the export of this work is not there")
        package = self._write(organ, export)
        at = self._context.clock()
        with self._context.db.write() as connection:
            finish_piece(connection, piece)
            mark_ready(
                connection,
                export.id,
                sha256=package.sha256,
                size_bytes=package.size_bytes,
                at=at,
                expires_at=at + timedelta(seconds=self._context.settings.export_kept_s),
            )
            data = asdict(package)
            event = Event(kind=EXPORT_READY, data=data, at=at)
            fresh = self._context.new_id().replace("-", "")
            add_deliveries(connection, organ.settings, [(fresh, event)])
        return {}

    def _write(self, organ: Organ, export: Export) -> Package:
        shelf = _shelf(self._context, organ)
        status = self._status(organ, export)
        held = collect(shelf, export.captures, (status,))
        anchor = choose_anchor(shelf, held[-1].record.index)
        waited_s = (self._context.clock() - export.created_at).total_seconds()
        expected = bool(organ.settings.witnesses or organ.settings.authorities)
        if expected and not anchor.complete and waited_s < self._context.settings.export_wait_s:
            raise NotAnchored("The checkpoint is not witnessed and stamped yet.")
        at = self._context.clock()
        contents = lay_out(shelf, export.captures, held, anchor, at)
        packages = packages_of(self._context)
        with packages.draft(export.id).open("w+b") as out:
            write_package(contents, out)
            out.flush()
            os.fsync(out.fileno())
            out.seek(0)
            hasher = Hasher()
            while piece := out.read(_PIECE_BYTES):
                hasher.update(piece)
        measured = hasher.measured()
        package = Package(export=export.id, sha256=measured.sha256, size_bytes=measured.size_bytes)
        packages.keep(package)
        return package

    def _status(self, organ: Organ, export: Export) -> str:
        """The id of the statement that says where the key chain stands; one for each export.

        It is the first `check` of the chain after the export's custody statements: a repeat after
        a crash or a wait finds it and makes no second one.
        """
        with self._context.db.read() as connection:
            last = max(
                record.index
                for record in records.find_records(connection, organ.log_id, export.captures)
            )
            about = records.records_about(connection, organ.log_id, export.captures[0])
            last = max([last, *(record.index for record in about)])
            checks = records.records_of_kind(connection, organ.log_id, "check", start=last + 1)
            for record in checks:
                if "keyring" in with_text(connection, record).statement.body:
                    return record.statement_id
        head = organ.admission.keys.head(organ.id)
        status: JSONObject = {
            "log": organ.origin,
            "size": organ.log.latest().size,
            "sequence": head.sequence,
        }
        if head.statement is not None:
            status["head"] = head.statement
        body: JSONObject = {"check": "keyring", "outcome": "pass", "keyring": status}
        made = organ.admission.make("check", body)
        [receipt] = require_logged(organ.admission.submit_own([made]).result())
        return receipt.statement_id


def _deeds(context: Context, organ: Organ, export: Export) -> list[Deed]:
    with context.db.read() as connection:
        found = find_uploads(connection, organ.log_id, export.captures)
        rows = {
            record.statement_id: record
            for record in records.find_records(connection, organ.log_id, export.captures)
        }
        deeds: list[Deed] = []
        for capture in export.captures:
            if capture not in found or capture not in rows:
                raise Problem("capture_unknown", "This organ's log holds no such capture.")
            upload = found[capture]
            if upload.state not in {ContentState.STORED, ContentState.DISPOSED}:
                raise Problem(
                    "content_pending", "A capture's content is not stored yet.", retry_after_s=1
                )
            deeds.append(
                Deed(
                    capture=capture,
                    index=rows[capture].index,
                    event="exported",
                    actor=export.requested_by,
                    previous=newest_about(connection, organ.log_id, capture),
                    reference=export.id,
                )
            )
    return deeds


def _shelf(context: Context, organ: Organ) -> Shelf:
    return Shelf(
        db=context.db,
        log=organ.log,
        log_id=organ.log_id,
        log_key=next(key for key in organ.log_keys if key.kind == ED25519),
        policy=organ.policy,
        vault=Vault(objects=context.objects, keys=context.keys),
        audience=context.deployment.audience,
        authorities=len(organ.settings.authorities),
    )
