"""Deliveries of a deployment, looked at and sent again from outside its processes.

Does: reads and marks rows of the database; a worker sends. Refuses to send anything itself.
"""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime

from service.deployment_file import database_url, read_deployment
from service.settings import Settings
from service.webhooks.deliveries import list_deliveries, replay_delivery
from storage.db.engine import Database


def show_deliveries(settings: Settings, limit: int) -> list[dict[str, str | int | None]]:
    """The newest deliveries, newest first.

    Raises:
        SettingsInvalid, StorageError: the deployment or its database cannot be read.
    """
    with _opened(settings) as db, db.read() as connection:
        return [
            {
                "id": one.id,
                "organ": one.organ,
                "webhook": one.webhook,
                "event": one.event,
                "state": one.state,
                "answer": one.answer,
                "problem": one.problem,
                "created_at": one.created_at.isoformat(),
            }
            for one in list_deliveries(connection, limit)
        ]


def tell_again(settings: Settings, delivery_id: str, at: datetime) -> bool:
    """Let a delivery be sent again; returns whether there is one.

    Raises:
        SettingsInvalid, StorageError: the deployment or its database cannot be read or written.
    """
    with _opened(settings) as db, db.write() as connection:
        return replay_delivery(connection, delivery_id, at)


@contextmanager
def _opened(settings: Settings) -> Generator[Database]:
    db = Database(database_url(settings, read_deployment(settings)))
    try:
        db.require_schema()
        yield db
    finally:
        db.close()
