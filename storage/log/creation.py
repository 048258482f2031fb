"""Making a log, which happens once and never by itself.

Does: enters an empty log with its signed checkpoint of size 0, and makes its head. Refuses: a
log that has leaves, a head that exists, and a head that would be backed up with the database.
"""

from collections.abc import Callable
from datetime import datetime

from evidence.merkle import EMPTY_ROOT
from evidence.tlog.checkpoint import LogSigner
from storage import records
from storage.errors import AlreadyExists
from storage.log.batch import sign_head, stored_checkpoint, whole_ms
from storage.log.heads import Head
from storage.log.submission import LogStores


def create_log(
    stores: LogStores, *, organ: str, signer: LogSigner, clock: Callable[[], datetime]
) -> None:
    """Make a new, empty log: its row, its signed checkpoint of size 0, and its head.

    A crash in between is completed by calling it again.

    Args:
        stores: migrated database, key file and tile store; the head's place must be free.
        organ: in whose name the log is kept.
        signer: of the log's origin.
        clock: now, UTC.

    Raises:
        AlreadyExists: the log was made before.
        Unavailable: the head lies with the database, or a store does not answer.
    """
    stores.heads.require_apart(stores.db)
    stores.db.require_schema()
    with stores.db.write(stores.turn) as connection:
        newest = records.newest_checkpoint(connection, stores.log_id)
        if newest is None:
            at = whole_ms(clock())
            log, origin = stores.log_id, stores.origin
            records.add_log(connection, log=log, organ=organ, origin=origin, at=at)
            head = sign_head(signer, 0, EMPTY_ROOT, at)
            records.add_checkpoint(connection, log, organ, stored_checkpoint(head))
        elif newest.size > 0:
            raise AlreadyExists("this log was made before, and has leaves")
    stores.heads.make(Head(size=0, root=EMPTY_ROOT))
