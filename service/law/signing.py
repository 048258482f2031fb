"""Which statements are taken from outside, and which the server may make itself.

Does: decides on one statement whose signature was verified, from the statement and the organ
that it was handed in for. Which key may sign which kind at which index is the key chain's
answer (`evidence.keyring`), asked in the sealer thread; here stands what this deployment takes
at all. Refuses nothing for its time or place: claims are recorded and compared, not judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from evidence.statement import Statement
from service.law.refusals import (
    AudienceRefused,
    ContentRefused,
    KindRefused,
    OrganRefused,
    SubjectMismatch,
)

OUTSIDE_KINDS = frozenset({"capture", "session", "key", "policy"})
"""Kinds that a device, an officer or a registrar hands in today."""

SERVER_KINDS = frozenset({"stored", "inspected", "custody", "check", "disposed"})
"""Kinds that the server states of its own doings today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What this deployment is, as far as admission cares.

    Attributes:
        audience: the deployment's stable id.
        organ: the organ in whose log the statement is to stand.
        log: that log's origin.
        log_id: that log's id in this database and in URLs.
        max_content_bytes: the largest content that is taken.
    """

    audience: str
    organ: str
    log: str
    log_id: str
    max_content_bytes: int


def consider_outside(statement: Statement, house: House) -> None:
    """Decide whether a statement from outside may stand in this organ's log.

    Raises:
        KindRefused: not one of `OUTSIDE_KINDS`, or a key request, which is never logged.
        AudienceRefused: made for another deployment.
        OrganRefused: made in another organ's name.
        SubjectMismatch: its subject lies in another log.
        ContentRefused: it announces more bytes than are taken here.
    """
    if statement.kind not in OUTSIDE_KINDS:
        msg = "Statements of this kind are not taken from outside."
        raise KindRefused(msg, pointer="/type")
    if statement.kind == "key" and statement.body.get("action") == "request":
        msg = "A key request is carried by its enrolment and never logged by itself."
        raise KindRefused(msg, pointer="/body/action")
    _consider_place(statement, house)
    if statement.kind == "capture" and content_size(statement) > house.max_content_bytes:
        msg = f"This deployment takes content of at most {house.max_content_bytes} bytes."
        raise ContentRefused(msg, pointer="/body/content/size_bytes")


def consider_own(statement: Statement, house: House) -> None:
    """Decide whether the server may state this in this organ's log.

    Raises:
        KindRefused: not one of `SERVER_KINDS`: a decision or a review is a human's.
        AudienceRefused, OrganRefused, SubjectMismatch: as `consider_outside`.
    """
    if statement.kind not in SERVER_KINDS:
        msg = "The server does not make statements of this kind."
        raise KindRefused(msg, pointer="/type")
    _consider_place(statement, house)


def consider_beginning(statement: Statement, house: House) -> None:
    """Decide whether a statement may begin this organ's log; nobody hands one in over the network.

    Raises:
        KindRefused: it is no `succession`.
        AudienceRefused, OrganRefused: as `consider_outside`.
        SubjectMismatch: it begins another log.
    """
    if statement.kind != "succession":
        msg = "A log that continues another one begins with the statement that says so."
        raise KindRefused(msg, pointer="/type")
    _consider_place(statement, house)
    if statement.body["log"] != house.log:
        msg = "The statement begins another log."
        raise SubjectMismatch(msg, pointer="/body/log")


def consider_index(statement: Statement, index: int) -> None:
    """Decide whether a statement may stand at the index that it would get.

    Raises:
        KindRefused: a log begins once; whoever could state that later could disown what is before.
    """
    if statement.kind == "succession" and index != 0:
        msg = "Only the first entry of a log says which one it continues."
        raise KindRefused(msg, pointer="/type")


def content_size(statement: Statement) -> int:
    """The announced length of a capture's content in bytes."""
    content = cast("Mapping[str, int]", statement.body["content"])  # as the kind's schema demands
    return content["size_bytes"]


def _consider_place(statement: Statement, house: House) -> None:
    """Replays into another deployment, organ or log are refused before anything is written."""
    if statement.audience != house.audience:
        msg = "The statement was made for another deployment."
        raise AudienceRefused(msg, pointer="/audience")
    if statement.organ != house.organ:
        msg = "The statement is made in the name of another organ."
        raise OrganRefused(msg, pointer="/organ")
    about = statement.about
    if about is not None and about.log is not None and about.log != house.log:
        msg = "The statement's subject stands in another log."
        raise SubjectMismatch(msg, pointer="/about/log")
