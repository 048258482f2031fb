"""What was proven about one log, and which statements are about which.

Does: holds the one rule by which a statement is about another, for receipts, custody, session
closings and shots alike. Refuses to go by the subject's name alone: a signed statement that names
a subject and puts it elsewhere, or stands before it, is about nothing.

Source: docs/evidence-format.md §2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from evidence.attested import Witnessed
from evidence.entries import Entry, LogView
from evidence.errors import KeySuspected
from evidence.keyring import EnrolledKey
from evidence.report import Findings, Outcome
from evidence.timestamp import Timestamp
from evidence.tlog.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """One log with everything that was proven about it.

    Attributes:
        view: its checkpoint and entries.
        holders: the signer's key of each entry whose key was valid, by statement id.
        witnessed: what the pinned witnesses say.
        tokens: believed time-stamps over the checkpoint.
        signature_tokens: believed time-stamps over captures' own signatures.
        policies: the pinned witness policy of each pinned log, by origin.
    """

    view: LogView
    holders: Mapping[str, EnrolledKey]
    witnessed: Witnessed
    tokens: tuple[Timestamp, ...]
    signature_tokens: Mapping[str, tuple[Timestamp, ...]]
    policies: Mapping[str, Policy]
    _of_kind: dict[str, list[Entry]] = field(init=False, repr=False, compare=False)
    _named: dict[tuple[str, str], list[Entry]] = field(init=False, repr=False, compare=False)
    _valid: dict[str, Entry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index once: each capture asks for what is said about it."""
        of_kind: dict[str, list[Entry]] = {}
        named: dict[tuple[str, str], list[Entry]] = {}
        valid: dict[str, Entry] = {}
        for entry in self.view.entries:
            statement = entry.statement
            if statement.id not in self.holders:
                continue
            valid[statement.id] = entry
            of_kind.setdefault(statement.kind, []).append(entry)
            if statement.about is not None:
                named.setdefault((statement.kind, statement.about.statement), []).append(entry)
        object.__setattr__(self, "_of_kind", of_kind)
        object.__setattr__(self, "_named", named)
        object.__setattr__(self, "_valid", valid)

    @property
    def origin(self) -> str:
        """The log's origin."""
        return self.view.signed.checkpoint.origin

    def trusted(self, kind: str, subject: Entry | None = None) -> list[Entry]:
        """Entries of one kind whose signer's key was valid, in log order.

        Args:
            kind: the statement's kind.
            subject: only those that are about this entry, where it is given.
        """
        if subject is None:
            return list(self._of_kind.get(kind, ()))
        named = self._named.get((kind, subject.statement.id), ())
        return [entry for entry in named if is_about(entry, subject, self.origin)]

    def find(self, statement_id: str) -> Entry | None:
        """The entry of that statement, if its signer's key was valid."""
        return self._valid.get(statement_id)

    def seen_at(self, statement_id: str) -> datetime | None:
        """The first time at which somebody independent had seen a statement's signature, UTC."""
        tokens = (*self.tokens, *self.signature_tokens.get(statement_id, ()))
        times = [token.gen_time for token in tokens]
        if self.witnessed.first_seen is not None:
            times.append(self.witnessed.first_seen)
        return min(times, default=None)

    def same_holder(self, one: Entry, other: Entry) -> bool:
        """Whether valid keys of one holder of one organ signed both; the keys may differ."""
        first = self.holders.get(one.statement.id)
        second = self.holders.get(other.statement.id)
        return (
            first is not None
            and second is not None
            and (first.organ, first.holder) == (second.organ, second.holder)
        )


def note_suspicion(proven: Proven, findings: Findings) -> None:
    """Ask of each valid statement whether its key was under suspicion when others saw it.

    A stolen key signs until its holder misses it, and its registrar says from when on it is
    suspected. Only a time that neither the thief nor the operator sets tells before from after.
    Notes `key.suspicion` for each statement that was not seen before.
    """
    for statement_id, key in proven.holders.items():
        if key.suspected_since is None:
            continue
        seen_at = proven.seen_at(statement_id)
        if seen_at is None or seen_at >= key.suspected_since:
            suspected = KeySuspected("Its key is suspected, and nobody saw the signature before.")
            findings.error(
                "key.suspicion", suspected, subject=statement_id, outcome=Outcome.UNCONFIRMED
            )


def is_about(entry: Entry, subject: Entry, origin: str) -> bool:
    """Whether an entry is about another one of the same log.

    Args:
        entry: what is said.
        subject: what it may be about.
        origin: of the log that holds both.
    """
    statement, about = entry.statement, entry.statement.about
    return (
        about is not None
        and about.statement == subject.statement.id
        and about.log in (None, origin)
        and about.index in (None, subject.index)
        and statement.organ == subject.statement.organ
        and statement.audience == subject.statement.audience
        and entry.index > subject.index
    )
