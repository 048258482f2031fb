"""verify_package: the numbered procedure from a package to a report.

Does: recomputes everything from the bytes at hand and the known keys that the caller
trusts; nothing in the package is believed because the package says so. Refuses to take a
trust anchor, a time or a network from anywhere but its arguments. The same function stands
behind the API, the command line and the tests.

Source: docs/evidence-format.md §10 has this procedure in words and under the same numbers, for
other implementations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, cast

from evidence.attested import demand_ml_dsa, stamped_checkpoint, stamped_signatures, witnessed
from evidence.canonical import JSONObject, parse_canonical
from evidence.digest import measure, sha256_hex
from evidence.entries import (
    Entry,
    LogView,
    check_keys,
    read_entries,
    read_logs,
)
from evidence.errors import DigestMismatch, EvidenceError, KnownKeysInvalid, PackageInvalid
from evidence.kinds.members import NAME, STATEMENT_ID
from evidence.known_keys import KnownKeys
from evidence.ladder import climb
from evidence.package import (
    FORMAT,
    INDEX,
    MAX_SMALL_BYTES,
    ORIGINALS,
    Package,
    check_listed,
    original_of,
    parse_manifest,
)
from evidence.proven import Proven, note_suspicion
from evidence.report import Findings, Outcome, Report
from evidence.schema import Choice, Record, Sequence, Time
from evidence.statement import Statement

MAX_CAPTURES = 20_000
_INDEX = Record(
    {
        "format": Choice((FORMAT,)),
        "audience": NAME,
        "made_at": Time(),
        "captures": Sequence(STATEMENT_ID, MAX_CAPTURES),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    package: Package
    manifest: Mapping[str, str]
    audience: str
    captures: tuple[str, ...]


def verify_package(stream: BinaryIO, known: KnownKeys, at: datetime) -> Report:
    """Check a package against the keys that the caller trusts.

    1. The container: one ZIP of the one layout, one folder, plain names, sums within limits.
    2. The bag: its tag files, every member listed once, and the listed digest of each small one.
       Where 1 or 2 cannot be read, nothing else is checked.
    3. The known keys: not expired at `at`, and for the package's deployment.
    4. Each statement: its leaf names it, the leaf's key signed its bytes, it reads strictly,
       and its proof does.
    5. Each log: its one checkpoint carries the pinned log's signatures; each leaf is in it, and
       each capture of the index is such a leaf's. What passes 4 and 5 is proven.
    6. Each key: the registrar's chain is unbroken; each signer was valid at the index, for the
       kind; the server's word that the chain of each capture's organ is whole.
    7. Witnesses: no pinned one's line fails, and the pinned quorum cosigned the checkpoint.
    8. Time: tokens under pinned roots over the checkpoint and over a capture's signature, none
       of after `at`; unless the attested time is before the pinned date, both log algorithms are
       demanded, without which 5 is failed after all; no key was suspected before others had seen
       what it signed.
    9. Content: each original has the announced size and digest, hashed once; none is another's.
    10. Each capture: what the server stored (10.1), the opening of its session (10.2), whether
        the session is whole (10.3), not after (10.4), not before (10.5), custody (10.6), and
        the ladder (10.7).

    Args:
        stream: the package, seekable; it is the attacker's until proven otherwise.
        known: the trust file, from outside the package.
        at: now, as the caller knows it, UTC.

    Returns:
        A report; nothing that a package holds makes this raise.

    Raises:
        ValueError: `at` has no zone.
    """
    if at.tzinfo is None:
        raise ValueError("the time of a verification needs a zone")
    findings = Findings()
    proven: list[Proven] = []
    captures: list[tuple[Entry, Proven]] = []
    opened = _open(stream, findings)  # 1, 2
    if opened is not None:
        _check_known(opened.audience, known, at, findings)  # 3
        entries = read_entries(opened.package, findings)  # 4
        views = read_logs(entries, known, findings)  # 5
        proven = [_prove(opened.package, view, known, at, findings) for view in views]  # 6 to 8
        captures = _captures(opened, proven, findings)
        _conclude(proven, findings)
        _check_originals(opened, [entry.statement for entry, _ in captures], findings)  # 9
    gaps: dict[str, str | None] = {}
    ladders = tuple(climb(capture, where, findings, gaps) for capture, where in captures)  # 10
    if ladders:
        findings.conclude("content.stored")
    return Report(
        checks=findings.checks(),
        captures=ladders,
        known_keys_sha256=known.sha256,
        known_keys_version=known.version,
        at=at,
    )


def _open(stream: BinaryIO, findings: Findings) -> _Opened | None:
    try:
        package = Package(stream)
    except EvidenceError as error:
        findings.error("package.container", error)
        return None
    findings.conclude("package.container")
    try:
        manifest = parse_manifest(package.read("manifest-sha256.txt"))
        tags = parse_manifest(package.read("tagmanifest-sha256.txt"))
        check_listed(package, manifest, tags)
        index = _index(package)
    except EvidenceError as error:
        findings.error("package.manifest", error)
        return None
    for name, digest in {**manifest, **tags}.items():
        if not name.startswith(ORIGINALS):
            _check_member(package, name, digest, findings)
    findings.conclude("package.manifest")
    return _Opened(
        package=package,
        manifest=manifest,
        audience=str(index["audience"]),
        captures=tuple(cast("list[str]", index["captures"])),
    )


def _index(package: Package) -> JSONObject:
    index = parse_canonical(package.read(INDEX), max_bytes=MAX_SMALL_BYTES)
    _INDEX.check(index, "")
    captures = cast("list[str]", index["captures"])
    if len(set(captures)) != len(captures):
        raise PackageInvalid("The package's index names a capture twice.")
    return index


def _check_member(package: Package, name: str, digest: str, findings: Findings) -> None:
    try:
        if sha256_hex(package.read(name)) != digest:
            raise DigestMismatch("A file does not have its listed SHA-256.")
    except EvidenceError as error:
        findings.error("package.manifest", error, subject=name)


def _check_known(audience: str, known: KnownKeys, at: datetime, findings: Findings) -> None:
    if at >= known.expires:
        expired = KnownKeysInvalid("The file of known keys has expired; get its successor.")
        findings.error("known_keys.valid", expired, outcome=Outcome.UNCONFIRMED)
    if audience != known.audience:
        foreign = KnownKeysInvalid("The known keys are for another deployment than the package.")
        findings.error("known_keys.valid", foreign, outcome=Outcome.UNCONFIRMED)
    findings.conclude("known_keys.valid")


def _prove(
    package: Package, view: LogView, known: KnownKeys, at: datetime, findings: Findings
) -> Proven:
    holders = check_keys(view, known, findings)  # 6
    seen = witnessed(view, known, at, findings)  # 7
    tokens = stamped_checkpoint(package, view, known, at, findings)  # 8
    demand_ml_dsa(view, known, tokens, findings)
    proven = Proven(
        view=view,
        holders=holders,
        witnessed=seen,
        tokens=tokens,
        signature_tokens=stamped_signatures(package, view, known, at, findings),
        policies={origin: log.policy for origin, log in known.logs.items()},
    )
    note_suspicion(proven, findings)
    return proven


def _captures(
    opened: _Opened, proven: list[Proven], findings: Findings
) -> list[tuple[Entry, Proven]]:
    """Every capture that the index promises must be an entry of a log."""
    logged = {
        entry.statement.id: (entry, where)
        for where in proven
        for entry in where.view.entries
        if entry.statement.kind == "capture"
    }
    for capture in opened.captures:
        if capture not in logged:
            findings.add(
                "log.inclusion",
                Outcome.UNCONFIRMED,
                "The package promises this capture but does not prove it.",
                subject=capture,
            )
    if not opened.captures:
        findings.add("log.inclusion", Outcome.UNCONFIRMED, "The package promises no capture.")
    return [logged[capture] for capture in opened.captures if capture in logged]


def _conclude(proven: list[Proven], findings: Findings) -> None:
    """Note the checks of steps 5 to 8 that judged something and failed nowhere.

    Not before all of them are done: step 8 can still fail `log.checkpoint`.
    """
    kinds = {entry.statement.kind for where in proven for entry in where.view.entries}
    judged = (
        (proven, ("log.checkpoint", "log.inclusion", "log.witnesses", "time.checkpoint")),
        (kinds & {"key"}, ("key.chain",)),
        (kinds, ("key.validity", "key.suspicion")),
        (kinds & {"capture"}, ("key.status", "time.signature")),
    )
    for something, names in judged:
        for name in names if something else ():
            findings.conclude(name)


def _check_originals(opened: _Opened, captures: list[Statement], findings: Findings) -> None:
    """Hash each original once, for the list and for the capture; notes `content.digest`."""
    claimed: set[str] = set()
    for capture in captures:
        content = cast("JSONObject", capture.body["content"])
        found = opened.package.names(original_of(capture.id))
        if len(found) != 1:
            none = PackageInvalid("The package does not hold exactly one original of the capture.")
            findings.error("content.digest", none, subject=capture.id, outcome=Outcome.UNCONFIRMED)
            continue
        [name] = found
        claimed.add(name)
        try:
            measured = measure(opened.package.pieces(name))
            if measured.sha256 != opened.manifest[name]:
                raise DigestMismatch("An original does not have its listed SHA-256.")
            measured.require(
                sha256=str(content["sha256"]), size_bytes=cast("int", content["size_bytes"])
            )
        except EvidenceError as error:
            findings.error("content.digest", error, subject=capture.id)
    for name in sorted(set(opened.manifest) - claimed):
        if name.startswith(ORIGINALS):
            findings.add(
                "content.digest",
                Outcome.UNCONFIRMED,
                "An original belongs to no capture that the package proves.",
                subject=name,
            )
    if captures:
        findings.conclude("content.digest")
