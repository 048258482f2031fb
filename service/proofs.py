"""What proves a logged statement to a stranger: its proof file, time-stamps and cosignatures.

Does: gathers proofs from the log and tokens from the database, and verifies tokens against the
pinned authorities before it counts them. Refuses to count what does not verify.
"""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, Select, func, select

from evidence.errors import EvidenceError
from evidence.statement import SignedStatement
from evidence.timestamp import Timestamp, verify_timestamp
from evidence.tlog.checkpoint import timestamped_message
from evidence.tlog.proof import TlogProof
from service.context import Organ
from storage import records
from storage.db.engine import Database
from storage.db.tables import timestamps
from storage.errors import IntegrityAlarm
from storage.log import CosignedCheckpoint
from storage.records import Stamped, StoredRecord


def first_proof(organ: Organ, record: StoredRecord) -> TlogProof:
    """The proof that the announcement was answered with, byte for byte.

    Raises:
        StorageError: a tile or a checkpoint that it needs is damaged.
    """
    receipt = organ.log.receipt(record.statement_id, record.key_id)
    return TlogProof(index=receipt.index, hashes=receipt.hashes, checkpoint=receipt.checkpoint)


def proof_into(organ: Organ, index: int, size: int, note: bytes) -> TlogProof:
    """The proof of a leaf in the tree of a checkpoint.

    Args:
        organ: whose log it is.
        index: of the leaf, below `size`.
        size: of the checkpoint.
        note: the checkpoint with whatever cosignatures it has.
    """
    return TlogProof(index=index, hashes=tuple(organ.log.proof(index, size)), checkpoint=note)


def newest_cosigned(organ: Organ, index: int) -> CosignedCheckpoint | None:
    """The newest checkpoint over a leaf that enough witnesses have cosigned, or None."""
    return None if organ.policy is None else organ.log.newest_cosigned(index, organ.policy)


def checkpoint_tokens(db: Database, organ: Organ, size: int) -> list[bytes]:
    """Time-stamps over the checkpoint of this size that verify, as DER TimeStampResp."""
    with db.read() as connection:
        stamps = records.timestamps_of(connection, organ.log_id, Stamped.CHECKPOINT, size)
        signed = records.checkpoints_of(connection, organ.log_id, [size])
    if size not in signed:
        return []
    message = timestamped_message(signed[size].note, organ.origin)
    return [stamp.response for stamp in stamps if _read(stamp.response, message, organ)]


def signature_tokens(db: Database, organ: Organ, record: StoredRecord) -> list[bytes]:
    """Time-stamps over a statement's own signature that verify, as DER TimeStampResp."""
    with db.read() as connection:
        stamps = records.timestamps_of(connection, organ.log_id, Stamped.SIGNATURE, record.index)
    return [stamp.response for stamp in stamps if _read(stamp.response, record.signature, organ)]


def read_checkpoint_tokens(db: Database, organ: Organ, index: int) -> tuple[Timestamp, ...]:
    """What the first stamped checkpoint over a leaf is stamped with."""
    with db.read() as connection:
        size = first_stamped_size(connection, organ.log_id, above=index)
        signed = records.checkpoints_of(connection, organ.log_id, [size] if size else [])
    if size is None or size not in signed:
        return ()
    message = timestamped_message(signed[size].note, organ.origin)
    return _read_all(checkpoint_tokens(db, organ, size), message, organ)


def read_signature_tokens(
    db: Database, organ: Organ, record: StoredRecord
) -> tuple[Timestamp, ...]:
    """What a statement's own signature is stamped with."""
    return _read_all(signature_tokens(db, organ, record), record.signature, organ)


def first_stamped_size(connection: Connection, log: str, *, above: int) -> int | None:
    """The smallest checkpoint with more than `above` leaves that has a time-stamp, or None."""
    query = select(timestamps.c.position).where(
        timestamps.c.log == log,
        timestamps.c.subject_kind == Stamped.CHECKPOINT.value,
        timestamps.c.position > above,
    )
    return connection.execute(query.order_by(timestamps.c.position).limit(1)).scalar_one_or_none()


def newest_stamped_size(connection: Connection, log: str) -> int:
    """The largest checkpoint that has a time-stamp; 0 where none has."""
    query = select(func.max(timestamps.c.position)).where(*_over_checkpoints(log))
    return connection.execute(query).scalar_one() or 0


def owed_checkpoints(
    connection: Connection, log: str, authority: str, *, above: int, limit: int
) -> list[int]:
    """Sizes of checkpoints that others have stamped and this authority has not, smallest first.

    Args:
        connection: for reading.
        log: id of the log.
        authority: its name in the deployment file.
        above: only larger ones.
        limit: at most so many.
    """
    query = _owed(log, authority, above).order_by(timestamps.c.position).limit(limit)
    return list(connection.execute(query).scalars())


def count_owed(connection: Connection, log: str, authority: str, *, above: int = 0) -> int:
    """How many `owed_checkpoints` there are."""
    owed = _owed(log, authority, above).subquery()
    return connection.execute(select(func.count()).select_from(owed)).scalar_one()


def lacking_authorities(db: Database, organ: Organ, index: int) -> tuple[str, ...]:
    """Who has not yet stamped the first stamped checkpoint over a leaf, by name."""
    names = [authority.name for authority in organ.settings.authorities]
    with db.read() as connection:
        size = first_stamped_size(connection, organ.log_id, above=index)
        stamps = records.timestamps_of(
            connection, organ.log_id, Stamped.CHECKPOINT, -1 if size is None else size
        )
    held = {stamp.tsa for stamp in stamps}
    return tuple(name for name in names if name not in held)


def _over_checkpoints(log: str) -> tuple[ColumnElement[bool], ...]:
    kind = timestamps.c.subject_kind == Stamped.CHECKPOINT.value
    return timestamps.c.log == log, kind


def _owed(log: str, authority: str, above: int) -> Select[int]:
    theirs = select(timestamps.c.position).where(
        *_over_checkpoints(log), timestamps.c.tsa == authority, timestamps.c.position > above
    )
    return (
        select(timestamps.c.position)
        .where(
            *_over_checkpoints(log),
            timestamps.c.position > above,
            timestamps.c.position.not_in(theirs),
        )
        .distinct()
    )


def read_signed(connection: Connection, record: StoredRecord) -> tuple[SignedStatement, bytes]:
    """A logged statement as it was handed in, with its signer's key.

    Raises:
        IntegrityAlarm: its text or its key is missing.
    """
    text = records.text_at(connection, record.log, record.index)
    public_key = records.public_key_of(connection, record.log, record.key_id)
    if text is None or public_key is None:
        raise IntegrityAlarm("the text or the key of a logged statement is missing")
    signed = SignedStatement(raw=text, signature=record.signature, key_id=record.key_id)
    return signed, public_key


def _read(response: bytes, message: bytes, organ: Organ) -> Timestamp | None:
    """A token that does not hold is no token; what rests on it stays open."""
    try:
        return verify_timestamp(response, message, organ.roots)
    except EvidenceError:
        return None


def _read_all(responses: Iterable[bytes], message: bytes, organ: Organ) -> tuple[Timestamp, ...]:
    read = (_read(response, message, organ) for response in responses)
    return tuple(token for token in read if token is not None)
