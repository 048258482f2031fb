"""What witnesses and authorities gave us, as it is kept: does it hold, and is it all there?

    1. each kept cosignature: its line is its row's, its checkpoint is ours, its key a pinned one
    2. each kept token: its authority is configured, stamped these very bytes, and at that time
    3. what is older than the time allowed is covered by a quorum and by each authority's token
    4. each stored capture has its own token, where the deployment asks for those

Does: verifies again and counts. Refuses to say that nothing is missing where a loss looks like a
token that never came: then the answer is `unknown`. A newer checkpoint covers the older ones, so
that a lost token of an older one is not missed, and its entries count as proven later.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import (
    Connection,
    bindparam,
    exists,
    func,
    select,
    type_coerce,
)
from sqlalchemy.types import BigInteger

from evidence.errors import EvidenceError, TimestampInvalid
from evidence.timestamp import verify_timestamp
from evidence.tlog.checkpoint import open_checkpoint, timestamped_message
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy
from service.captures.workflow import STAMP
from service.deployment_file import AuthoritySettings, OrganSettings
from service.doctor.diagnosis import Findings, Listed, failed, noted, passed, unknown
from service.key_files import log_signer, witness_policy
from service.settings import Settings
from storage import records
from storage.db.engine import Database
from storage.db.tables import checkpoints, outbox, timestamps
from storage.db.tables import records as record_rows
from storage.errors import IntegrityAlarm
from storage.log.cosigned import read_line
from storage.records import Stamped, StoredCosignature

ALLOWED = timedelta(minutes=10)
"""So long may a checkpoint wait to be attested: twice the longest pause between two questions."""

_CLOCK_STEP = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_MOST = 20_000
"""So many checkpoints with cosignatures, and so many tokens, are verified: the newest."""


class _Token(NamedTuple):
    """A kept token; times in milliseconds since 1970, as they are kept."""

    subject_kind: str
    position: int
    tsa: str
    response: bytes
    gen_time: int
    received_at: int


# ------------------------------------------------------------------------ cosignatures


def check_cosignatures(
    settings: Settings, organ: OrganSettings, db: Database, at: datetime
) -> Findings:
    """Steps 1 and 3 for the witnesses."""
    policy = witness_policy(settings, organ)
    if policy is None or not organ.witnesses:
        return
    log_keys = log_signer(settings, organ.log).verifier_keys
    wrong = Listed("witness.cosignatures")
    newest = strange = 0
    with db.read() as connection:
        sizes = records.cosigned_sizes(connection, organ.log.id, above=-1, limit=_MOST)
    for size, _ in sizes:
        with db.read() as connection:
            sound, unpinned = _sound_lines(connection, organ, log_keys, policy, size, wrong, at)
        strange += unpinned
        if not newest and policy.is_quorum(sound):
            newest = size
    yield from wrong.end(f"What is kept under the newest {len(sizes)} cosigned checkpoints holds.")
    if strange:
        yield noted(wrong.name, f"{strange} cosignatures are of keys that the policy lacks.")
    yield from _coverage(db, organ, at, "witness.coverage", "quorum of cosignatures", newest)


def _sound_lines(
    connection: Connection,
    organ: OrganSettings,
    log_keys: Sequence[VerifierKey],
    policy: Policy,
    size: int,
    wrong: Listed,
    at: datetime,
) -> tuple[set[str], int]:
    """The policy's names of those whose lines under a checkpoint hold, and how many are unknown."""
    try:
        signed = records.checkpoints_of(connection, organ.log.id, [size]).get(size)
        rows = records.cosignatures_of(connection, organ.log.id, size)
        if signed is None:
            raise IntegrityAlarm("no checkpoint of this size was signed")
        checkpoint = open_checkpoint(signed.note, log_keys).checkpoint
    except (EvidenceError, IntegrityAlarm) as error:
        wrong.fail(f"What is kept under checkpoint {size} proves nothing: {error.detail}.")
        return set(), 0
    sound: set[str] = set()
    unpinned = 0
    for row in rows:
        names = _names_of(policy, row)
        unpinned += not names
        try:
            read_line(row, checkpoint, tuple(policy.witnesses.values()))
        except EvidenceError as error:
            what = f"The cosignature of {row.witness} under checkpoint {size}"
            wrong.fail(f"{what} does not hold: {error.detail}.")
            continue
        sound.update(names)
        if not _plausible(row.received_at, signed.committed_at, at):
            wrong.fail(f"A cosignature under checkpoint {size} came at {row.received_at}, it says.")
    return sound, unpinned


def _names_of(policy: Policy, row: StoredCosignature) -> list[str]:
    made_by = (row.witness, row.witness_key)
    return [
        name for name, key in policy.witnesses.items() if (key.name, key.key_id.hex()) == made_by
    ]


def _plausible(received_at: datetime, committed_at: datetime, at: datetime) -> bool:
    """Whether something over what was committed then can have come then, clocks being clocks."""
    return committed_at - _CLOCK_STEP <= received_at <= at + _CLOCK_STEP


# ------------------------------------------------------------------------------ tokens


def check_tokens(settings: Settings, organ: OrganSettings, db: Database, at: datetime) -> Findings:
    """Steps 2, 3 and 4 for the authorities."""
    roots = {one.name: _roots(settings, one) for one in organ.authorities}
    wrong, count = Listed("time.tokens"), 0
    stamped: dict[str, int] = {}
    with db.read() as connection:
        total = connection.execute(
            select(func.count()).where(timestamps.c.log == organ.log.id)
        ).scalar_one()
        for row in map(_Token._make, connection.execute(_TOKENS, {"log": organ.log.id})):
            count += 1
            try:
                _check_token(connection, organ, roots, row, at)
            except (EvidenceError, IntegrityAlarm) as error:
                what = f"The time-stamp of {row.tsa} over {row.subject_kind} {row.position}"
                wrong.fail(f"{what} does not hold. {error.detail}")
            else:
                if row.subject_kind == Stamped.CHECKPOINT:
                    stamped[row.tsa] = max(stamped.get(row.tsa, 0), row.position)
    yield from wrong.end()
    rest = f" There are {total - count} older ones." if total > count else ""
    yield noted(wrong.name, f"The newest {count} kept time-stamps were verified.{rest}")
    for one in organ.authorities:
        what = f"time-stamp of {one.name}"
        newest = stamped.get(one.name, 0)
        yield from _coverage(db, organ, at, f"time.coverage.{one.name}", what, newest)
        if organ.stamp_captures:
            yield from _captures_without(db, organ, one)


def _check_token(
    connection: Connection,
    organ: OrganSettings,
    roots: Mapping[str, Sequence[bytes]],
    row: _Token,
    at: datetime,
) -> None:
    """Raise unless one token is what its row says, of that authority, over those bytes."""
    if row.tsa not in roots:
        raise TimestampInvalid("No such authority is configured.")
    message, since = _covered(connection, organ, row.subject_kind, row.position)
    said = verify_timestamp(row.response, message, roots[row.tsa])
    if (said.gen_time - _EPOCH) // _MS != row.gen_time:
        raise TimestampInvalid("Its row states another time than the token.")
    try:
        received_at = _EPOCH + row.received_at * _MS
    except OverflowError as error:
        raise TimestampInvalid("Its row states no time of arrival.") from error
    if not _plausible(received_at, since, at):
        raise TimestampInvalid(f"Its row says that it came at {received_at}.")


def _covered(
    connection: Connection, organ: OrganSettings, kind: str, position: int
) -> tuple[bytes, datetime]:
    """The bytes that a kept time-stamp covers, and since when there were any."""
    log = organ.log.id
    if kind == Stamped.SIGNATURE:
        record = records.record_at(connection, log, position)
        if record is not None:
            return record.signature, record.received_at
    elif kind == Stamped.CHECKPOINT:
        signed = records.checkpoints_of(connection, log, [position]).get(position)
        if signed is not None:
            return timestamped_message(signed.note, organ.log.origin), signed.committed_at
    raise TimestampInvalid("There is nothing that it could cover.")


def _captures_without(db: Database, organ: OrganSettings, authority: AuthoritySettings) -> Findings:
    """Step 4: captures whose content is stored, whose stamping is done, and that have no token.

    Before the first that has one the deployment may not have asked for any.
    """
    capture, stored = record_rows.alias(), record_rows.alias()
    own = timestamps.c.log == organ.log.id, timestamps.c.tsa == authority.name
    own = *own, timestamps.c.subject_kind == Stamped.SIGNATURE.value
    bare = (
        select(capture.c.idx, capture.c.statement_id)
        .where(
            capture.c.log == organ.log.id,
            capture.c.kind == "capture",
            exists().where(
                stored.c.log == organ.log.id,
                stored.c.kind == "stored",
                stored.c.subject == capture.c.statement_id,
            ),
            ~exists().where(*own, timestamps.c.position == capture.c.idx),
            ~exists().where(
                outbox.c.log == organ.log.id,
                outbox.c.kind == STAMP,
                outbox.c.subject == capture.c.statement_id,
            ),
        )
        .order_by(capture.c.idx)
    )
    wrong, untold = Listed(f"time.captures.{authority.name}"), 0
    with db.read() as connection:
        first = connection.execute(select(func.min(timestamps.c.position)).where(*own)).scalar_one()
        for index, capture_id in connection.execute(bare):
            if first is not None and index > first:
                wrong.fail(f"Capture {capture_id} had a time-stamp of {authority.name}, now none.")
            else:
                untold += 1
    sound = "" if untold else f"Every stored capture has its time-stamp of {authority.name}."
    yield from wrong.end(sound)
    if untold:
        what = "Whether they were lost or never asked for cannot be told from here."
        detail = f"{untold} stored captures have no time-stamp of {authority.name}, nor any before."
        yield unknown(wrong.name, f"{detail} {what}")


# ---------------------------------------------------------------------------- coverage


def _coverage(
    db: Database, organ: OrganSettings, at: datetime, name: str, what: str, newest: int
) -> Findings:
    """Step 3: whether what is old enough is covered by the newest that is attested."""
    old = select(func.max(checkpoints.c.size)).where(
        checkpoints.c.log == organ.log.id, checkpoints.c.committed_at <= at - ALLOWED
    )
    with db.read() as connection:
        due = connection.execute(old).scalar_one() or 0
    minutes = ALLOWED // timedelta(minutes=1)
    if newest < due:
        kept = f"the newest kept one covers {newest}" if newest else "none is kept"
        yield failed(
            name,
            f"No {what} covers the {due} entries that are older than {minutes} minutes; {kept}."
            " Whether it was lost or never came cannot be told from here.",
        )
    elif not newest:
        yield unknown(name, f"No {what} is kept yet: it was lost, or has not come.")
    else:
        yield passed(name, f"A {what} covers {newest} entries; nothing has waited too long.")


def _roots(settings: Settings, authority: AuthoritySettings) -> list[bytes]:
    return [to_der((settings.folder / file).read_bytes()) for file in authority.root_files]


def to_der(raw: bytes) -> bytes:
    """A certificate as DER; the file may be PEM or DER."""
    if not raw.lstrip().startswith(b"-----BEGIN"):
        return raw
    return x509.load_pem_x509_certificate(raw).public_bytes(Encoding.DER)


# Times as the numbers that they are kept as: a row whose time is none is a fault to tell.
_TOKENS = (
    select(
        timestamps.c.subject_kind,
        timestamps.c.position,
        timestamps.c.tsa,
        timestamps.c.response,
        type_coerce(timestamps.c.gen_time, BigInteger).label("gen_time"),
        type_coerce(timestamps.c.received_at, BigInteger).label("received_at"),
    )
    .where(timestamps.c.log == bindparam("log"))
    .order_by(timestamps.c.received_at.desc(), timestamps.c.position.desc())
    .limit(_MOST)
)
