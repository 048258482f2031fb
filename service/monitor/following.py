"""One look at a log from outside, and what it means beside everything that was seen before.

    1. the checkpoint is fetched and opened under the pinned keys
    2. it is held against every tree that the log signed before: two roots of one size, or fewer
       entries than ever; then it is remembered, whatever else is found
    3. the new entries (on a whole look: all of them) are read and the tree is recomputed
    4. the recomputed tree has the signed root, and at each earlier size the root that was signed
       then; else the log has two histories, or its files are not what it signed
    5. the pinned witnesses' lines, and for how long their quorum has been missing
    6. what devices were promised is there

Does: says what it found, and remembers it before it says so. Refuses to take a tree for read whose
entries it could not read, and to forget a proof: two signed notes stay true.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from evidence.errors import EvidenceError
from evidence.known_keys import KnownLog
from evidence.merkle import Frontier
from evidence.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from evidence.tlog.cosignature import verify_timestamped
from evidence.tlog.note import ED25519, ML_DSA_44
from service.client.failures import Undecided
from service.monitor.findings import PROOFS, Code, Finding
from service.monitor.memory import Memory, Signed
from service.monitor.promises import check_promise, read_promises
from service.monitor.source import Absent, Source
from service.monitor.walk import Walk, Walked


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What the monitoring person demands.

    Attributes:
        unwitnessed_s: for so long a quorum of witnesses may be missing, seconds.
        stale_s: for so long nothing may be signed, seconds.
        receipts: folder of devices' receipts, or None.
    """

    unwitnessed_s: int
    stale_s: int
    receipts: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found.

    Attributes:
        origin: of the log.
        size: of the checkpoint that it shows; None where it shows none that is signed.
        root: of that, 32 bytes.
        read: how many entries were read.
        whole: whether that were all of them.
        witnessed: whether the pinned quorum has cosigned that checkpoint; None where the pinned
            policy demands nobody.
        receipts: how many receipts were looked at.
        findings: what is not as it must be, earlier proofs included.
    """

    origin: str
    size: int | None = None
    root: bytes | None = None
    read: int = 0
    whole: bool = False
    witnessed: bool | None = False
    receipts: int = 0
    findings: tuple[Finding, ...] = ()

    def document(self) -> dict[str, object]:
        """The same as JSON."""
        return {
            "origin": self.origin,
            "size": self.size,
            "root": None if self.root is None else self.root.hex(),
            "read": self.read,
            "whole": self.whole,
            "witnessed": self.witnessed,
            "receipts": self.receipts,
            "findings": [
                {
                    "code": one.code.value,
                    "place": one.place,
                    "detail": one.detail,
                    "notes": [note.decode("utf-8", "replace") for note in one.notes],
                }
                for one in self.findings
            ],
        }


class Monitor:
    """Follows one log."""

    def __init__(
        self,
        source: Source,
        memory: Memory,
        log: Callable[[], KnownLog],
        demands: Demands,
        clock: Callable[[], float],
    ) -> None:
        """Prepare; `look` asks.

        Args:
            source: the log's address.
            memory: what was seen before.
            log: the pinned log, read anew for each look: its keys may rotate.
            demands: see the class.
            clock: POSIX seconds.
        """
        self._source = source
        self._memory = memory
        self._log = log
        self._demands = demands
        self._clock = clock

    def look(self, *, whole: bool) -> Look:
        """Do the steps of the module.

        Args:
            whole: read every file again, not only what is new.

        Raises:
            Unreachable, Undecided: the log does not answer, or shows nothing yet.
        """
        log, at_s = self._log(), int(self._clock())
        self._memory.bind(log.origin)
        findings: list[Finding] = []
        signed = self._open(log, at_s, findings)  # 1
        if signed is None:
            return self._told(Look(origin=log.origin), findings, at_s)
        tree = signed.checkpoint
        findings += self._compare(tree, signed.note.encode(), at_s)  # 2
        start = Frontier.empty() if whole else self._memory.edge()
        read_from = min(start.size, tree.size)
        if not any(one.code in PROOFS for one in findings):
            findings += self._recompute(tree, start)  # 3, 4
        witnessed = self._witnessing(log, signed, at_s, findings)  # 5
        receipts = self._promises(log, tree, findings)  # 6
        look = Look(
            origin=log.origin,
            size=tree.size,
            root=tree.root,
            read=tree.size - read_from,
            whole=whole,
            witnessed=witnessed,
            receipts=receipts,
        )
        return self._told(look, findings, at_s)

    def _open(self, log: KnownLog, at_s: int, findings: list[Finding]) -> SignedCheckpoint | None:
        """The signed checkpoint, or None where there is none that holds."""
        newest = self._memory.newest()
        try:
            note = self._source.checkpoint()
        except Absent as absent:
            if newest is None:
                raise Undecided("Nothing is published yet.") from absent
            told = f"The log shows nothing any more; it had signed {newest.size} entries."
            findings.append(Finding(code=Code.TILE_MISSING, place="checkpoint", detail=told))
            return None
        both = log.ml_dsa_from is not None and at_s >= log.ml_dsa_from.timestamp()
        try:
            require = frozenset({ED25519, ML_DSA_44} if both else {ED25519})
            return open_checkpoint(note, log.keys, require=require)
        except EvidenceError as error:
            told = f"It is not signed as the known keys demand. {error.detail}"
            findings.append(Finding(code=Code.CHECKPOINT_INVALID, place="checkpoint", detail=told))
            return None

    def _compare(self, tree: Checkpoint, note: bytes, at_s: int) -> list[Finding]:
        """Step 2."""
        findings: list[Finding] = []
        newest = self._memory.newest()
        if newest is not None and tree.size < newest.size:
            told = f"The log shows {tree.size} entries and had signed {newest.size}."
            findings.append(
                Finding(
                    code=Code.ROLLED_BACK,
                    place=f"size {tree.size}",
                    detail=told,
                    notes=(newest.note, note),
                )
            )
        findings += [
            _two(other, note, tree.size)
            for other in self._memory.signed().get(tree.size, ())
            if other.root != tree.root
        ]
        self._memory.add_signed(Signed(size=tree.size, root=tree.root, note=note), at_s)
        return findings

    def _recompute(self, tree: Checkpoint, start: Frontier) -> list[Finding]:
        """Steps 3 and 4."""
        signed, begun_at = self._memory.signed(), start.size
        walked = Walk(self._source.file, tree.size, signed.keys()).run(start)
        findings = walked.findings
        if walked.edge.size < tree.size:
            return findings  # what could not be read is among them
        if walked.edge.root() != tree.root:
            return findings or self._differs(tree, whole=begun_at == 0)
        proven = self._contradicted(tree, walked)
        if not proven:
            self._memory.keep_edge(walked.edge)
        return [*findings, *proven]

    def _differs(self, tree: Checkpoint, *, whole: bool) -> list[Finding]:
        """The files agree with each other and lead elsewhere: read all of them to know where to."""
        if whole:
            return [_elsewhere(tree)]
        wanted = self._memory.signed().keys()
        walked = Walk(self._source.file, tree.size, wanted).run(Frontier.empty())
        if walked.edge.size == tree.size and walked.edge.root() == tree.root:
            return self._contradicted(tree, walked)
        return walked.findings or [_elsewhere(tree)]

    def _contradicted(self, tree: Checkpoint, walked: Walked) -> list[Finding]:
        """What was signed at earlier sizes and is no beginning of the tree that is signed now."""
        signed = self._memory.signed()
        note = next(one.note for one in signed[tree.size] if one.root == tree.root)
        return [
            _two(other, note, tree.size)
            for size, root in walked.roots.items()
            for other in signed[size]
            if other.root != root
        ]

    def _witnessing(
        self, log: KnownLog, signed: SignedCheckpoint, at_s: int, findings: list[Finding]
    ) -> bool | None:
        """Step 5, and how old the log's own signature is."""
        signed_at_s = _signed_at(signed)
        if signed_at_s is not None and at_s - signed_at_s > self._demands.stale_s:
            told = f"Nothing was signed for {timedelta(seconds=at_s - signed_at_s)}."
            findings.append(Finding(code=Code.STALE, place="checkpoint", detail=told))
        if log.policy.is_quorum(()):
            return None
        try:
            satisfied = log.policy.judge(signed).satisfied
        except EvidenceError as error:
            findings.append(
                Finding(code=Code.COSIGNATURE_INVALID, place="checkpoint", detail=error.detail)
            )
            satisfied = False
        begun_s = min(at_s, signed_at_s or at_s)
        since_s = self._memory.unwitnessed_since(None if satisfied else begun_s)
        if since_s is not None and at_s - since_s > self._demands.unwitnessed_s:
            told = f"No quorum of witnesses has cosigned for {timedelta(seconds=at_s - since_s)}."
            findings.append(Finding(code=Code.UNWITNESSED, place="checkpoint", detail=told))
        return satisfied

    def _promises(self, log: KnownLog, tree: Checkpoint, findings: list[Finding]) -> int:
        """Step 6; returns how many were looked at."""
        count = 0
        if self._demands.receipts is not None:
            for promise in read_promises(self._demands.receipts):
                count += 1
                broken = check_promise(promise, log.keys, tree, self._source.file)
                if broken is not None:
                    findings.append(broken)
        return count

    def _told(self, look: Look, findings: list[Finding], at_s: int) -> Look:
        """Remember what is proven, and tell it together with what was proven before."""
        self._memory.keep_proofs(findings, at_s)
        now = [one for one in findings if one.code not in PROOFS]
        return replace(look, findings=(*self._memory.proofs(), *now))


def _signed_at(signed: SignedCheckpoint) -> int | None:
    """When the log says that it signed, POSIX seconds: its ML-DSA-44 line states it."""
    times = [
        verify_timestamped(signed.checkpoint, line, key)
        for key in signed.log_keys
        for line in signed.note.signatures
        if key.kind == ML_DSA_44 and key.made(line)
    ]
    return max(times, default=None)


def _two(other: Signed, note: bytes, size: int) -> Finding:
    return Finding(
        code=Code.TWO_HISTORIES,
        place=f"size {other.size}",
        detail=f"The log signed a tree of {other.size} entries, and one of {size} without it.",
        notes=(other.note, note),
    )


def _elsewhere(tree: Checkpoint) -> Finding:
    told = "The entries and tiles agree with each other, and not with the signed root."
    return Finding(code=Code.TREE_DIFFERS, place=f"size {tree.size}", detail=told)
