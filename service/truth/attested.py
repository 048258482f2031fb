"""What witnesses and authorities gave, row by row: only the database has it, and it proves itself.

Does: verifies each cosignature under its pinned witness's key and each token under its authority's
root, over what the log's own files prove. Refuses to tell whether one was removed: no file of the
log has them, and `fengni doctor` asks what should be there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from evidence.errors import EvidenceError, TimestampInvalid
from evidence.timestamp import TimestampRoot, read_response, verify_timestamp
from evidence.tlog.checkpoint import open_checkpoint, timestamped_message
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy
from service.deployment_file import LogSettings, OrganSettings
from service.key_files import log_signer, timestamp_roots, witness_policy
from service.settings import Settings
from storage import records
from storage.db.tables import cosignatures, timestamps
from storage.errors import IntegrityAlarm
from storage.log.comparing import Difference, kept_rows
from storage.log.cosigned import read_line
from storage.records import Stamped, StoredCosignature

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_DAMAGE = (EvidenceError, IntegrityAlarm, TypeError, ValueError, LookupError, OverflowError)
"""What a row raises that nobody of ours wrote, or that does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """Whose word counts for one log.

    Attributes:
        log: its id.
        origin: its name in checkpoints.
        organ: whose it is.
        log_keys: its public keys.
        policy: which witnesses count, or None where none are named.
        authorities: names of the configured time-stamp authorities.
        roots: theirs.
    """

    log: str
    origin: str
    organ: str
    log_keys: Sequence[VerifierKey]
    policy: Policy | None
    authorities: frozenset[str]
    roots: Sequence[TimestampRoot]

    @property
    def witness_keys(self) -> tuple[VerifierKey, ...]:
        """Of the pinned witnesses."""
        return () if self.policy is None else tuple(self.policy.witnesses.values())


def parties_of(settings: Settings, organ: OrganSettings, log: LogSettings) -> Parties:
    """Read whose word counts for a log of an organ.

    Raises:
        SettingsInvalid: a key, policy or certificate file is missing or malformed.
    """
    return Parties(
        log=log.id,
        origin=log.origin,
        organ=organ.id,
        log_keys=log_signer(settings, log).verifier_keys,
        policy=witness_policy(settings, organ),
        authorities=frozenset(one.name for one in organ.authorities),
        roots=timestamp_roots(settings, organ),
    )


def check_attested(connection: Connection, parties: Parties) -> Iterator[Difference]:
    """Name every cosignature and every token that does not hold.

    Args:
        connection: in the snapshot of the walk.
        parties: of the log.
    """
    for row in kept_rows(connection, cosignatures, cosignatures.c.log == parties.log):
        try:
            sound_cosignature(connection, parties, row)
        except _DAMAGE as error:
            key = (row["size"], row["witness"], row["witness_key"])
            yield _false("cosignatures", parties, key, error)
    for row in kept_rows(connection, timestamps, timestamps.c.log == parties.log):
        try:
            sound_token(connection, parties, row)
        except _DAMAGE as error:
            key = (row["subject_kind"], row["position"], row["tsa"])
            yield _false("timestamps", parties, key, error)


def sound_cosignature(
    connection: Connection, parties: Parties, row: dict[str, object]
) -> StoredCosignature:
    """A row whose line the witness signed over our checkpoint.

    Args:
        connection: to a database that has the log's checkpoints.
        parties: of the log.
        row: as it is kept.

    Raises:
        EvidenceError, IntegrityAlarm, TypeError, ValueError, LookupError: it does not hold.
    """
    note = _note(connection, parties, row["size"])
    line = StoredCosignature(
        size=_number(row["size"]),
        witness=str(row["witness"]),
        witness_key=str(row["witness_key"]),
        line=str(row["line"]),
        at_s=_number(row["at_s"]),
        received_at=moment_of(row["received_at"]),
    )
    if row["organ"] != parties.organ:
        raise ValueError("the row names another organ")
    read_line(line, open_checkpoint(note, parties.log_keys).checkpoint, parties.witness_keys)
    return line


def sound_token(
    connection: Connection, parties: Parties, row: dict[str, object]
) -> records.StoredTimestamp:
    """A row whose token the authority made over these very bytes; raises as `sound_cosignature`."""
    kind, response = Stamped(str(row["subject_kind"])), row["response"]
    if not isinstance(response, bytes):
        raise TypeError("the response is no bytes")
    if row["tsa"] not in parties.authorities:
        raise TimestampInvalid("No such authority is configured.")
    if row["organ"] != parties.organ:
        raise ValueError("the row names another organ")
    if kind is Stamped.CHECKPOINT:
        message = timestamped_message(_note(connection, parties, row["position"]), parties.origin)
    else:
        record = records.record_at(connection, parties.log, _number(row["position"]))
        if record is None:
            raise IntegrityAlarm("there is no entry at its index")
        message = record.signature
    verify_timestamp(response, message, parties.roots)
    stamp = records.StoredTimestamp(
        subject_kind=kind,
        position=_number(row["position"]),
        tsa=str(row["tsa"]),
        response=response,
        gen_time=moment_of(row["gen_time"]),
        received_at=moment_of(row["received_at"]),
    )
    if (read_response(response).gen_time - _EPOCH) // _MS != row["gen_time"]:
        raise TimestampInvalid("The row has another time than its token.")
    return stamp


def _note(connection: Connection, parties: Parties, size: object) -> bytes:
    signed = records.checkpoints_of(connection, parties.log, [_number(size)])
    if not signed:
        raise IntegrityAlarm("no checkpoint of this size was signed")
    return signed[_number(size)].note


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a number is none")
    return value


def moment_of(value: object) -> datetime:
    """A time as it is kept, milliseconds since 1970, in UTC."""
    return _EPOCH + _number(value) * _MS


def _false(table: str, parties: Parties, key: tuple[object, ...], error: Exception) -> Difference:
    """Nobody's word is left for it: what was given is lost unless a package has it."""
    detail = getattr(error, "detail", None) or type(error).__name__
    return Difference(
        table=table,
        key=" ".join(str(part) for part in (parties.log, *key)),
        column=None,
        kind="differs",
        believed="neither",
        why=f"its signature proves something else: {detail}",
    )
