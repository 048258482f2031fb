"""What a server has promised, kept by the one who was promised it: nothing here asks the server."""

import random
from dataclasses import dataclass, field
from typing import Any

from evidence.statement import SignedStatement


@dataclass(frozen=True, kw_only=True)
class Announced:
    """An announcement that was answered.

    Attributes:
        signed: the statements, in their order.
        request: the request's body.
        answer: the answer's body, byte for byte.
    """

    signed: tuple[SignedStatement, ...]
    request: bytes
    answer: bytes


@dataclass(frozen=True, kw_only=True)
class Sending:
    """A capture whose content is on its way; the bytes are made anew from their seed.

    Attributes:
        signed: the capture's statement.
        seed: of the content.
        size_bytes: of the content.
    """

    signed: SignedStatement
    seed: str
    size_bytes: int

    @property
    def content(self) -> bytes:
        """The bytes that were announced."""
        return content_of(self.seed, self.size_bytes)


@dataclass(kw_only=True)
class Ledger:
    """Everything that clients sent, and everything that they were answered.

    Attributes:
        tried: ids of all statements that were sent, answered or not.
        announced: announcements that were answered.
        unsent: captures that are announced and whose content nobody was answered for.
        taken: the answers to contents, by capture.
        wrong: (capture, digest) of wrong bytes that were sent.
        aside: those of them that the server said it keeps aside.
        viewed: captures whose content was read.
        exported: exports that were answered, by id.
        faults: what no server may do, in words.
    """

    tried: set[str] = field(default_factory=set)
    announced: list[Announced] = field(default_factory=list)
    unsent: list[Sending] = field(default_factory=list)
    taken: dict[str, tuple[Sending, dict[str, Any]]] = field(default_factory=dict)
    wrong: set[tuple[str, str]] = field(default_factory=set)
    aside: set[tuple[str, str]] = field(default_factory=set)
    viewed: set[str] = field(default_factory=set)
    exported: dict[str, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def figures(self) -> str:
        """How much of everything there is, in one line."""
        statements = sum(len(one.signed) for one in self.announced)
        counts = {
            "statements": statements,
            "announcements": len(self.announced),
            "contents": len(self.taken),
            "contents kept aside": len(self.aside),
            "readings": len(self.viewed),
            "exports": len(self.exported),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items())


def content_of(seed: str, size_bytes: int) -> bytes:
    """The same bytes for the same seed."""
    return random.Random(seed).randbytes(size_bytes)
