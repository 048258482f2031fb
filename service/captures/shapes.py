"""The JSON of captures, as it crosses the HTTP edge.

Does: names every member once, for routes and for the API's description. Refuses unknown members
on the way in.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

MOST_STATEMENTS = 200
Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]


class WireStatement(Struct, frozen=True, forbid_unknown_fields=True):
    """A signed statement in its wire form."""

    statement: Annotated[Base64, Meta(description="The canonical bytes, base64.")]
    signature: Annotated[Base64, Meta(description="DER ECDSA signature over them, base64.")]
    key_id: Annotated[Hex, Meta(description="SHA-256 of the signer's DER public key.")]


class Announcement(Struct, frozen=True, forbid_unknown_fields=True):
    """Statements to be logged, in their order.

    The items are read one by one later, so that a bad one does not sink the rest.
    """

    statements: Annotated[list[Any], Meta(min_length=1, max_length=MOST_STATEMENTS)]


class AnnouncedItem(Struct, frozen=True, omit_defaults=True):
    """The receipt of one statement, or why it was refused."""

    id: Hex | None = None
    log: str | None = None
    index: int | None = None
    tree_size: int | None = None
    inclusion_proof: list[Base64] | None = None
    problem: dict[str, object] | None = None


class AnnouncementAnswer(Struct, frozen=True):
    """Receipts in request order, and each signed checkpoint that they lead to once."""

    items: list[AnnouncedItem]
    checkpoints: Annotated[
        dict[str, str], Meta(description="Signed notes by tree size, as decimal text.")
    ]


class Received(Struct, frozen=True):
    """Content that is durable here and is what was announced."""

    id: Hex
    sha256: Hex
    size_bytes: int
    received_at: datetime
    state: Literal["received"] = "received"


class ContentView(Struct, frozen=True):
    """How far a capture's content has come."""

    state: Literal["announced", "received", "stored", "disposed"]
    sha256: Hex
    size_bytes: int
    media_type: str
    received_at: datetime | None


class CaptureSummary(Struct, frozen=True):
    """One line of a list."""

    id: Hex
    log: str
    index: int
    received_at: datetime
    signer: Hex
    session: Hex | None
    mode: str
    captured_at: str
    content: ContentView


class CapturePage(Struct, frozen=True):
    """A page of captures, newest first; `next` is the cursor of the following page."""

    items: list[CaptureSummary]
    next: str | None


class RungView(Struct, frozen=True):
    """One rung of the ladder: its own outcome, never added to the others."""

    rung: str
    outcome: Literal["pass", "content_changed", "cannot_confirm", "not_checked"]
    detail: str
    missing: str | None


class WorkView(Struct, frozen=True):
    """What the server still has to do with a capture, or failed to do."""

    kind: str
    state: Literal["held", "waiting", "handed", "leased", "failed"]
    problem: str | None


class CaptureView(Struct, frozen=True):
    """One capture with everything that can be shown of it."""

    id: Hex
    log: str
    index: int
    received_at: datetime
    signer: Hex
    statement: Annotated[
        dict[str, object] | None, Meta(description="What the device claims, as it was signed.")
    ]
    content: ContentView
    ladder: list[RungView]
    not_before: Annotated[
        datetime | None,
        Meta(description="Before this time it was not signed, as known witnesses prove."),
    ]
    not_after: Annotated[
        datetime | None, Meta(description="The first independent time over it, where proven.")
    ]
    inspections: Annotated[
        list[dict[str, object]], Meta(description="The server's opinions, newest last.")
    ]
    work: list[WorkView]
    proven: str
    not_proven: str


class LoggedStatement(Struct, frozen=True):
    """A logged statement in its wire form, with its place."""

    id: Hex
    kind: str
    log: str
    index: int
    received_at: datetime
    statement: Base64
    signature: Base64
    key_id: Hex


class StatementList(Struct, frozen=True):
    """The capture's own statement and every one about it, in the order of the log."""

    items: list[LoggedStatement]
    next: str | None
