"""Announcing: statements go first, receipts come back, and only verified ones are believed.

Does: hands the journal's statements in, up to 200 at a time, verifies each receipt under the
known keys and keeps it. Refuses to make a new statement here, and to keep a receipt that does
not hold: the server may not be wrong about what it promised.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from evidence.errors import EvidenceError
from evidence.known_keys import KnownLog
from evidence.schema import decode_base64
from evidence.statement import to_wire
from evidence.tlog.proof import TlogProof
from service.client.api import Api
from service.client.failures import ReceiptRefused
from service.client.journal import Entry, Journal
from service.client.receipts import verify_receipt

BATCH = 200
"""The most statements that one request may carry."""


class ProblemAnswer(msgspec.Struct, frozen=True):
    """What a device reads of a problem document."""

    code: str
    title: str = ""
    detail: str = ""

    @property
    def sentence(self) -> str:
        """The problem in one line."""
        return f"{self.title}. {self.detail}".strip()


class _Item(msgspec.Struct, frozen=True):
    """One statement's answer: a receipt, or a problem."""

    index: int | None = None
    tree_size: int | None = None
    inclusion_proof: tuple[str, ...] = ()
    problem: ProblemAnswer | None = None


class _Answer(msgspec.Struct, frozen=True):
    """The answer to a batch; `checkpoints` is keyed by tree size."""

    items: tuple[_Item, ...]
    checkpoints: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcer:
    """Everything that announcing needs."""

    api: Api
    journal: Journal
    public_key: bytes
    log: KnownLog
    clock: Callable[[], datetime]

    def announce(self, entries: Sequence[Entry]) -> dict[str, ProblemAnswer]:
        """Hand in those that have no receipt yet, in their order.

        Returns:
            The problem of each statement that the server refused, by its id; the receipts of
            all others are verified and in the journal.

        Raises:
            ReceiptRefused: a receipt does not hold. Receipts of earlier batches are kept.
            ServerRefused, Undecided: the request as a whole.
        """
        refused: dict[str, ProblemAnswer] = {}
        for batch in _batches([entry for entry in entries if entry.receipt is None]):
            wires = [to_wire(entry.signed) for entry in batch]
            answer = self.api.post("/v1/captures", {"statements": wires}, _Answer)
            if len(answer.items) != len(batch):
                raise ReceiptRefused("The server answered for another number of statements.")
            receipts: list[tuple[str, bytes]] = []
            for entry, item in zip(batch, answer.items, strict=True):
                if item.problem is not None:
                    refused[entry.id] = item.problem
                else:
                    receipts.append((entry.id, self._receipt(entry, item, answer.checkpoints)))
            self.journal.keep_receipts(receipts)
        return refused

    def _receipt(self, entry: Entry, item: _Item, checkpoints: Mapping[str, str]) -> bytes:
        """The verified receipt as a `.tlog-proof`."""
        if item.index is None or str(item.tree_size) not in checkpoints:
            raise ReceiptRefused("The server's receipt lacks its index or its checkpoint.")
        try:
            proof = TlogProof(
                index=item.index,
                hashes=tuple(decode_base64(line) for line in item.inclusion_proof),
                checkpoint=checkpoints[str(item.tree_size)].encode(),
            )
        except EvidenceError as error:
            raise ReceiptRefused("The server's receipt is malformed.") from error
        verify_receipt(proof, entry.signed, self.public_key, self.log, self.clock())
        return proof.encode()


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), BATCH):
        yield entries[start : start + BATCH]
