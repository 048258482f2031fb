"""A deployment that was used and stopped, in a folder that a test may spoil."""

import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from litestar.testing import TestClient

from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.note import VerifierKey
from service.app import create_app
from service.deployment_file import Places, read_deployment
from service.doctor import Diagnosis, examine
from service.fsck import check_logs
from service.key_files import log_signer
from service.settings import Settings
from service.setup.deployment import DEVELOPMENT_MARK
from storage.tiles import LocalTiles
from tests.service.attested_maker import Attested
from tests.service.test_captures import announce, get, seal, send
from tests.service.test_exports import ask, fetch

LOG = "county-a-2026"
OTHER_LOG = "county-b-2026"
PATIENCE_S = 60
_TRIGGERS = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One stopped deployment.

    Attributes:
        settings: of its folder.
        captures: ids of what was sealed, in the order of the log; the last one's content has
            not come.
    """

    settings: Settings
    captures: tuple[str, ...]

    @property
    def places(self) -> Places:
        """Where everything lies."""
        return Places(self.settings.folder)

    @property
    def database(self) -> Path:
        """Its database's file."""
        return self.settings.folder / "db" / "fengni.db"

    def copy(self, folder: Path) -> "Kept":
        """The same in another folder."""
        shutil.copytree(self.settings.folder, folder)
        return Kept(
            settings=msgspec.structs.replace(self.settings, folder=folder), captures=self.captures
        )

    def edit(self, sql: str, *values: object) -> int:
        """Change the database behind the service's back; returns how many rows changed."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            triggers = connection.execute(_TRIGGERS).fetchall()
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            changed = connection.execute(sql, values).rowcount
            for _, trigger in triggers:
                connection.execute(trigger)
        return changed

    def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Read the database."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(sql, values).fetchall()

    def doctor(self, *, later: timedelta = timedelta()) -> list[Diagnosis]:
        """What doctor finds now, or so much later."""
        return examine(self.settings, datetime.now(UTC) + later)

    def wrong(self, *, later: timedelta = timedelta()) -> list[str]:
        """`name detail` of whatever doctor calls wrong."""
        return [
            f"{one.name} {one.detail}" for one in self.doctor(later=later) if one.answer == "fail"
        ]

    def fsck(self) -> list[str]:
        """`code place detail` of whatever fsck finds."""
        return [
            f"{one.code} {one.place} {one.detail}"
            for log in check_logs(self.settings)
            for one in log.findings
        ]


def use(attested: Attested) -> Kept:
    """Seal three contents, quarantine one, export one, announce one more, and stop.

    What is outside must run.
    """
    made = attested.made
    (made.settings.folder / DEVELOPMENT_MARK).write_text("for tests\n")
    with TestClient(create_app(made.settings)) as client:
        sealed = [seal(client, made, content) for content in (b"one", b"two", b"three")]
        waiting = made.parties["county-a"].capture(b"four")
        assert announce(client, made, waiting).status_code == 200
        assert send(client, made, waiting.id, b"4our").status_code == 422
        fetch(client, made, ask(client, made, sealed[0]).headers["location"])
        assert get(client, made, f"/v1/captures/{sealed[1]}/content").status_code == 200
        kept = Kept(settings=made.settings, captures=(*sealed, waiting.id))
        deadline = time.monotonic() + PATIENCE_S
        while not _complete(kept, len(sealed)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return kept


def published_size(kept: Kept, log: str = LOG) -> int:
    """How many entries are published."""
    note = LocalTiles(kept.places.tiles(log)).checkpoint()
    assert note is not None
    return open_checkpoint(note, _keys(kept, log)).checkpoint.size


def _keys(kept: Kept, log: str) -> Sequence[VerifierKey]:
    deployment = read_deployment(kept.settings)
    [organ] = [organ for organ in deployment.organs if organ.log.id == log]
    return log_signer(kept.settings, organ.log).verifier_keys


def _complete(kept: Kept, sealed: int) -> bool:
    """Whether everything is published, cosigned and stamped."""
    stamps = kept.rows("SELECT 1 FROM timestamps WHERE subject_kind = 'signature'")
    complete = len(stamps) == sealed
    for log in (LOG, OTHER_LOG):
        [(size,)] = kept.rows("SELECT max(size) FROM checkpoints WHERE log = ?", log)
        cosigned = kept.rows("SELECT 1 FROM cosignatures WHERE log = ? AND size = ?", log, size)
        stamped = kept.rows(
            "SELECT 1 FROM timestamps WHERE log = ? AND subject_kind = 'checkpoint'"
            " AND position = ?",
            log,
            size,
        )
        complete = complete and len(cosigned) == 2 and len(stamped) == 1
    return complete
