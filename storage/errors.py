"""Every error that may leave `storage`: the store is wrong, full, locked or away.

Wrong bytes inside a statement, tile or note are `evidence.errors`; what the rules forbid is a
refusal of `service`. Programming mistakes stay `ValueError` or `TypeError`.
Each class has a stable `code` that appears in problems, findings and logs.

    StorageError                      storage_error
    ├── NotFound                      not_found             no such object, tile or staged file
    ├── NameRefused                   name_refused          a name that this store can never hold
    ├── AlreadyExists                 already_exists        other bytes hold that name
    ├── TooLong                       too_long              more bytes came than were announced
    ├── IntegrityAlarm                integrity_alarm       what is held is not what its name says
    │   └── LogRolledBack             log_rolled_back       older than what was signed, or other
    ├── Retained                      retained              a lock or a hold forbids it
    ├── KeyDestroyed                  key_destroyed         by authority, and noted; never a fault
    ├── HeadConflict                  head_conflict         another writer moved the log's head
    └── Unavailable                   unavailable           the store does not answer as it should
        ├── LeadershipLost            leadership_lost       another node sequences the log now
        ├── LogUnconfirmed            log_unconfirmed       no witness has told how far it was
        ├── NotBegun                  not_begun             an earlier run's work is taken up first
        ├── LogUnanswered             log_unanswered        the log's leader did not answer in time
        ├── SyncFailed                sync_failed           the disk did not confirm; never retried
        └── DiskReserveReached        disk_reserve_reached  no room above the reserve
"""

from typing import ClassVar


class StorageError(Exception):
    """The store is at fault. `detail` is one plain sentence without personal data."""

    code: ClassVar[str] = "storage_error"

    def __init__(self, detail: str) -> None:
        """Keep the sentence.

        Args:
            detail: one sentence for the operator; holds names that the store made itself
                (digests, tile names), never a name that a client chose.
        """
        super().__init__(detail)
        self.detail = detail


class NotFound(StorageError):
    """Nothing is held under that name."""

    code = "not_found"


class NameRefused(StorageError):
    """The name is not of the form that this store gives; it never reached the file system."""

    code = "name_refused"


class AlreadyExists(StorageError):
    """A write-once name holds other bytes than those handed in."""

    code = "already_exists"


class TooLong(StorageError):
    """More bytes came than the sender had announced."""

    code = "too_long"


class IntegrityAlarm(StorageError):
    """What is held is not what its name promises: damage or tampering, never a retry."""

    code = "integrity_alarm"


class LogRolledBack(IntegrityAlarm):
    """The log's state is older than, or differs from, what was signed before."""

    code = "log_rolled_back"


class Retained(StorageError):
    """A retention date or a legal hold forbids what was asked."""

    code = "retained"


class KeyDestroyed(StorageError):
    """The key was destroyed by authority, so nobody opens what it sealed; a note says who did."""

    code = "key_destroyed"


class HeadConflict(StorageError):
    """The log's head is not the one that the writer started from."""

    code = "head_conflict"


class Unavailable(StorageError):
    """The store cannot be reached or does not do what it must; nothing was promised."""

    code = "unavailable"


class LeadershipLost(Unavailable):
    """Another node took the log over; what was not committed before can be sent again there."""

    code = "leadership_lost"


class LogUnconfirmed(Unavailable):
    """Too few witnesses have told how far the log was: nothing is signed, all can be read."""

    code = "log_unconfirmed"


class NotBegun(Unavailable):
    """What an earlier run left is still being taken up: nothing new is taken until that is done."""

    code = "not_begun"


class LogUnanswered(Unavailable):
    """The node that leads the log did not answer in time: it may be logged, and a repeat tells."""

    code = "log_unanswered"


class SyncFailed(Unavailable):
    """A sync to disk failed: what the disk holds is unknown and the same sync is never retried."""

    code = "sync_failed"


class DiskReserveReached(Unavailable):
    """Taking these bytes would leave less free space than the reserve."""

    code = "disk_reserve_reached"
