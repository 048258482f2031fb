"""One question about a deployment, and the four answers that it may have.

Does: shapes only. Refuses a fifth answer: what could not be asked is `unknown`, never a pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

MOST_LISTED = 100
"""So many faults of one question are told one by one."""


class Answer(StrEnum):
    """What a check found."""

    PASS = "pass"  # noqa: S105  an answer, no password
    NOTE = "note"
    UNKNOWN = "unknown"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One question and its answer.

    Attributes:
        name: stable, such as `log.witness`.
        answer: see `Answer`.
        detail: one sentence.
    """

    name: str
    answer: Answer
    detail: str


Findings = Iterator[Diagnosis]


def passed(name: str, detail: str) -> Diagnosis:
    """Good, and tried."""
    return Diagnosis(name=name, answer=Answer.PASS, detail=detail)


def noted(name: str, detail: str) -> Diagnosis:
    """True and worth knowing; neither good nor bad."""
    return Diagnosis(name=name, answer=Answer.NOTE, detail=detail)


def unknown(name: str, detail: str) -> Diagnosis:
    """Could not be asked."""
    return Diagnosis(name=name, answer=Answer.UNKNOWN, detail=detail)


def failed(name: str, detail: str) -> Diagnosis:
    """Not as it must be."""
    return Diagnosis(name=name, answer=Answer.FAIL, detail=detail)


class Listed:
    """The faults of one question, as many as a person reads; the others are counted."""

    def __init__(self, name: str) -> None:
        """Begin with none.

        Args:
            name: of the question.
        """
        self.name = name
        self._count = 0
        self._first: list[str] = []

    def fail(self, detail: str) -> None:
        """Note one fault."""
        self._count += 1
        if self._count <= MOST_LISTED:
            self._first.append(detail)

    def end(self, sound: str = "") -> Findings:
        """The faults, or what is said where there are none."""
        for detail in self._first:
            yield failed(self.name, detail)
        if self._count > MOST_LISTED:
            yield failed(self.name, f"There are {self._count - MOST_LISTED} more of these.")
        elif not self._count and sound:
            yield passed(self.name, sound)
