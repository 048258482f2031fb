"""What a process brings along to take part in a log that several processes have open.

Shapes only: what is done with it is written at `storage.log.joined`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from evidence.tlog.checkpoint import LogSigner
from storage.db.notices import Notices
from storage.log.publisher import PERIOD_S
from storage.log.submission import CommittedHead, LogStores, WitnessAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What witnesses told of a log.

    Attributes:
        answers: of those that answered.
        enough: whether these are enough for the log to sign.
    """

    answers: tuple[WitnessAnswer, ...]
    enough: bool


def nobody_asked() -> Heard:
    """What there is to hear of a log without witnesses."""
    return Heard(answers=(), enough=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a process needs to take part in a log.

    Attributes:
        stores: of a log that `create_log` made, on a database server.
        signer: of the log's origin.
        clock: now, UTC.
        node: this process, for people who ask who leads.
        notices: wakes this process.
        witnessed: asks the log's witnesses; may take seconds.
        published: called in the publisher's thread after each publication, only to wake.
        period_s: at most one publication in this time.
    """

    stores: LogStores
    signer: LogSigner
    clock: Callable[[], datetime]
    node: str
    notices: Notices
    witnessed: Callable[[], Heard] = nobody_asked
    published: Callable[[CommittedHead], None] = lambda _head: None
    period_s: float = PERIOD_S
