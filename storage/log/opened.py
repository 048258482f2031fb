"""What an open log offers, whoever leads it.

Two classes keep it: `Log`, which this process leads from opening to closing, and `JoinedLog`, which
it leads or follows as it comes. What each method promises is written at `Log` and `LogReader`.
"""

from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass

from evidence.tlog.policy import Policy
from storage.log.cosigned import Cosignatures, CosignedCheckpoint
from storage.log.submission import CommittedHead, Outcome, Receipt, Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    """How a log is doing.

    Attributes:
        size: number of leaves that were answered for.
        published_size: number of leaves under the published checkpoint.
        halted: why nothing is signed any more, or None.
        confirmed: whether enough witnesses have told how far it was, so that it may sign.
        publication: why the last publication failed, or None.
        leads: whether this process sequences it.
        leader: the node that does, where several could; None where there is nobody to ask.
        epoch: of its term, where several could.
        waited_s: how long the oldest statement waits for the leader.
    """

    size: int
    published_size: int
    halted: Exception | None
    confirmed: bool
    publication: Exception | None
    leads: bool
    leader: str | None = None
    epoch: int | None = None
    waited_s: float = 0.0


class OpenLog(ABC):
    """One open log. Threads may share it."""

    cosignatures: Cosignatures

    @property
    @abstractmethod
    def term(self) -> int:
        """How often this process began to lead it."""

    @property
    @abstractmethod
    def leads(self) -> bool:
        """Whether this process sequences it now."""

    @abstractmethod
    def submit(self, submission: Submission) -> Future[list[Outcome]]:
        """Queue statements that the caller has verified."""

    @abstractmethod
    def require_taking(self) -> None:
        """Demand that statements are taken, before anything is made for the log."""

    @abstractmethod
    def halt(self, reason: str) -> None:
        """Sign nothing more until a new start."""

    @abstractmethod
    def latest(self) -> CommittedHead:
        """The newest tree that was answered for, as far as is known here."""

    @abstractmethod
    def reach(self, size: int) -> None:
        """Look whether the log has grown so far, where another process may have made it grow."""

    @abstractmethod
    def receipt(self, statement_id: str, key_id: str) -> Receipt:
        """The receipt that a statement got when it was logged, byte for byte."""

    @abstractmethod
    def proof(self, index: int, size: int) -> list[bytes]:
        """Inclusion proof of a leaf in the tree of a size."""

    @abstractmethod
    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Proof that the tree of one size is a beginning of the tree of another."""

    @abstractmethod
    def newest_cosigned(self, index: int, policy: Policy) -> CosignedCheckpoint | None:
        """The newest checkpoint above a leaf that satisfies a policy."""

    @abstractmethod
    def checkpoint(self) -> bytes:
        """The published checkpoint with the cosignature lines known so far."""

    @abstractmethod
    def tile(self, path: str) -> bytes:
        """A published tile or bundle by its path."""

    @abstractmethod
    def publish(self) -> None:
        """Publish what is committed now."""

    @abstractmethod
    def status(self) -> LogStatus:
        """How the log is doing here, for health checks."""

    @abstractmethod
    def close(self) -> None:
        """Finish what waits, and let go."""
