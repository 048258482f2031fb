"""A worker process with work of its own: what it does can be held up, and can kill it.

    python -m tests.service.work_process URL FOLDER KEPT_S ALONE

Each piece's effect is a row that can be written only once, in the transaction that ends the piece.
A piece whose subject begins with `slow` waits at its first attempt until the process is killed;
one that begins with `poison` kills the process.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from uuid import uuid4

from sqlalchemy import insert, select

from service.metrics import Metrics
from service.work.engine import House, WorkEngine
from service.work.nodes import Node
from service.work.queue import Piece, finish_piece
from service.work.worker import Failures, Task, Terms
from storage.db.engine import Database
from storage.db.tables import views
from storage.errors import Unavailable
from tests.tools import ROOT

KIND = "store"
ATTEMPTS = 3
BATCH = 5


def main() -> None:
    """Work until SIGTERM."""
    url, folder, kept_s, alone = sys.argv[1:]
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    db = Database(url)
    engine = make_engine(url, db, Path(folder), int(kept_s), alone=alone == "alone")
    engine.start()
    sys.stdout.write("working\n")
    sys.stdout.flush()
    ended.wait()
    engine.close()
    sys.stdout.write("drained\n")


def make_engine(url: str, db: Database, folder: Path, kept_s: int, *, alone: bool) -> WorkEngine:
    """An engine with this module's work."""

    def do(pieces: Sequence[Piece]) -> Failures:
        """Leave a mark for each piece; a subject `fails…` fails by itself."""
        failures: dict[Piece, Exception] = {}
        for piece in pieces:
            (folder / f"began-{piece.subject}-{piece.attempts}").touch()
            if piece.subject.startswith("poison"):
                os.kill(os.getpid(), signal.SIGKILL)
            while piece.subject.startswith("slow") and piece.attempts == 1:
                if (folder / "let-go").exists():
                    break
                time.sleep(0.02)
            if piece.subject.startswith("fails"):
                failures[piece] = Unavailable("it is away")
                continue
            with db.write() as connection:
                finish_piece(connection, piece)
                effect = {"log": piece.log, "reader": str(os.getpid()), "object": piece.subject}
                connection.execute(
                    insert(views).values(**effect, organ=piece.organ, until=datetime.now(UTC))
                )
        return failures

    return WorkEngine(
        House(
            url=url,
            node=Node(executor=f"test-{uuid4()}", kind="worker", host="test"),
            kept_s=kept_s,
            alone=alone,
            new_id=lambda: str(uuid4()),
        ),
        [Task(kind=KIND, do=do, batch=BATCH)],
        Terms(
            db=db,
            clock=lambda: datetime.now(UTC),
            attempts=ATTEMPTS,
            metrics=Metrics(),
            logs=lambda: None,
        ),
    )


def effects(db: Database) -> list[tuple[str, str]]:
    """(subject, process) of every effect; a subject that stands twice was done twice."""
    with db.read() as connection:
        rows = connection.execute(select(views.c.object, views.c.reader))
        return sorted((row.object, row.reader) for row in rows)


class WorkProcess:
    """One such process."""

    def __init__(self, url: str, folder: Path, *, kept_s: int = 3600, alone: bool = False) -> None:
        """Start it."""
        words = [url, str(folder), str(kept_s), "alone" if alone else "beside others"]
        self._said = folder / f"said-{uuid4()}"
        with self._said.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.service.work_process", *words],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def __enter__(self) -> Self:
        """Kill it at the end of the block if it runs then."""
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def said(self) -> str:
        """What it wrote."""
        return self._said.read_text("utf-8", "replace")

    def kill(self) -> None:
        """As a power cut would."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        self.process.terminate()
        self.process.wait(60)


def later(seconds: float) -> datetime:
    """A time from now on."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


if __name__ == "__main__":
    main()
