"""What stands outside a deployment, or is told from outside: witnesses, authorities, keys, clock.

Does: asks them and compares. Refuses to take an unanswered question for a good answer, and the
word of a local authority for an independent time.
"""

from datetime import datetime, timedelta
from secrets import randbits

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, select

from evidence.errors import EvidenceError
from evidence.keyring import Keyring, Registrar
from evidence.keys import P256Signer
from evidence.known_keys import parse_known_keys
from evidence.schema import decode_base64
from evidence.statement import parse_statement
from evidence.timestamp import Timestamp, verify_timestamp
from evidence.tlog.checkpoint import timestamped_message
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy, parse_policy
from service.context import log_signer
from service.doctor.diagnosis import Findings, failed, noted, passed, unknown
from service.proofs import count_owed, owed_checkpoints
from service.settings import (
    AuthoritySettings,
    Deployment,
    OrganSettings,
    Settings,
    SettingsInvalid,
    WitnessSettings,
)
from service.setup.deployment import KNOWN_KEYS_FILE
from service.transparency.tsa_client import AuthorityUnavailable, request_timestamp
from service.transparency.witness_client import (
    WitnessAddress,
    WitnessRefusal,
    WitnessUnavailable,
    latest,
)
from service.transparency.workflow import witness_keys
from storage import records
from storage.db.engine import Database
from storage.db.tables import timestamps
from storage.records import Stamped

_TIMEOUT_S = 5.0
_MOST_TOKENS = 1000
_CLOCK_TOLERANCE = timedelta(seconds=5)
_EXPIRES_SOON = timedelta(days=30)


def check_witnesses(settings: Settings, organ: OrganSettings, db: Database) -> Findings:
    """What each witness remembers of the log must be what we have."""
    if not organ.witnesses:
        yield noted("witness", "Nobody witnesses this log.")
        return
    policy = _policy(settings, organ)
    log_keys = log_signer(settings, organ.log).verifier_keys
    for witness in organ.witnesses:
        yield from _check_witness(witness, policy, organ, log_keys, db)


def _check_witness(
    witness: WitnessSettings,
    policy: Policy,
    organ: OrganSettings,
    log_keys: tuple[VerifierKey, ...],
    db: Database,
) -> Findings:
    name = f"witness.{witness.name}"
    address = WitnessAddress(url=witness.url, keys=witness_keys(policy, witness))
    try:
        signed = latest(address, organ.log.origin, log_keys, timeout_s=_TIMEOUT_S)
    except (WitnessUnavailable, WitnessRefusal):
        yield unknown(name, "The witness does not answer.")
        return
    if signed is None:
        yield noted(name, "The witness has not cosigned this log yet.")
        return
    seen = signed.checkpoint
    with db.read() as connection:
        same = records.checkpoints_of(connection, organ.log.id, [seen.size])
    if seen.size not in same or same[seen.size].root != seen.root:
        yield failed(name, f"The witness saw {seen.size} entries under a root that is not ours.")
    else:
        yield passed(name, f"The witness saw {seen.size} entries, as we have them.")


def check_authority(
    settings: Settings, authority: AuthoritySettings, at: datetime, stamps: list[Timestamp]
) -> Findings:
    """Have it stamp something, and verify that under its pinned root; keep the stamp."""
    name = f"time.{authority.name}"
    message = b"fengni doctor " + at.isoformat().encode()
    try:
        roots = [_der((settings.folder / file).read_bytes()) for file in authority.root_files]
        response = request_timestamp(authority.url, message, randbits(63), _TIMEOUT_S)
        stamp = verify_timestamp(response, message, roots)
    except AuthorityUnavailable:
        yield unknown(name, "The authority does not answer.")
    except (EvidenceError, OSError, ValueError) as error:
        yield failed(name, f"What the authority answers does not verify: {error}")
    else:
        stamps.append(stamp)
        yield passed(
            name, f"The authority stamps under its pinned root: {stamp.gen_time:%H:%M:%S}."
        )


def check_tokens(settings: Settings, organ: OrganSettings, db: Database) -> Findings:
    """The newest time-stamps that are kept must still verify under the pinned roots."""
    roots = [
        _der((settings.folder / file).read_bytes())
        for authority in organ.authorities
        for file in authority.root_files
    ]
    newest = select(timestamps.c.subject_kind, timestamps.c.position, timestamps.c.response)
    newest = newest.where(timestamps.c.log == organ.log.id)
    newest = newest.order_by(timestamps.c.received_at.desc()).limit(_MOST_TOKENS)
    with db.read() as connection:
        stamps = [
            (kind, position, response, _covered(connection, organ, Stamped(kind), position))
            for kind, position, response in connection.execute(newest)
        ]
    for kind, position, response, message in stamps:
        try:
            verify_timestamp(response, message, roots)
        except EvidenceError as error:
            what = f"The time-stamp over {kind} {position} does not hold."
            yield failed("time.tokens", f"{what} {error.detail}")
    yield noted("time.tokens", f"The newest {len(stamps)} kept time-stamps were verified.")


def check_owed(organ: OrganSettings, db: Database) -> Findings:
    """What one authority has stamped and another has not: fetched later, and said until then."""
    if len(organ.authorities) == 1:
        yield noted("time.authorities", "One authority alone: nobody else could contradict it.")
    for authority in organ.authorities:
        name = f"time.{authority.name}.owed"
        with db.read() as connection:
            owed = count_owed(connection, organ.log.id, authority.name)
            first = owed_checkpoints(connection, organ.log.id, authority.name, above=0, limit=1)
        if owed:
            told = f"{owed} stamped checkpoints lack its time-stamp, from {first[0]} entries on."
            yield noted(name, f"{told} The server fetches them.")
        else:
            yield passed(name, "It has stamped every checkpoint that any authority has.")


def _covered(connection: Connection, organ: OrganSettings, kind: Stamped, position: int) -> bytes:
    """The bytes that a kept time-stamp covers; empty where they are gone."""
    log = organ.log.id
    if kind is Stamped.SIGNATURE:
        record = records.record_at(connection, log, position)
        return b"" if record is None else record.signature
    signed = records.checkpoints_of(connection, log, [position]).get(position)
    return b"" if signed is None else timestamped_message(signed.note, organ.log.origin)


def check_keys(
    settings: Settings, deployment: Deployment, organ: OrganSettings, db: Database
) -> Findings:
    """The server's key as the registrar's chain tells."""
    registrars = [
        Registrar(organ=organ.id, public_key=decode_base64(key)) for key in organ.registrars
    ]
    ring = Keyring(deployment.audience, registrars)
    with db.read() as connection:
        logged = records.records_of_kind(connection, organ.log.id, "key", limit=1_000_000)
        for record in logged:
            raw = records.text_at(connection, organ.log.id, record.index)
            if raw is None:
                yield failed("keys.chain", f"The text of the key statement {record.index} is gone.")
                return
            ring.apply(parse_statement(raw), record.index)
    yield passed("keys.chain", f"{len(logged)} key statements form one chain.")
    signer = P256Signer.from_pem((settings.folder / organ.server_key_file).read_bytes())
    key = ring.keys().get(signer.key_id)
    if key is None or key.revoked_index is not None:
        yield failed("keys.server", "The server's key is not enrolled, or was revoked.")
    else:
        yield passed(
            "keys.server", f"The server's key is enrolled since entry {key.enrolled_index}."
        )


def check_known_keys(settings: Settings, deployment: Deployment, at: datetime) -> Findings:
    """The trust file that lies here: is it ours, and for how long is it good?"""
    path = settings.folder / KNOWN_KEYS_FILE
    if not path.exists():
        yield noted("keys.known", "No trust file lies here; those who verify have their own.")
        return
    try:
        known = parse_known_keys(path.read_bytes())
    except EvidenceError as error:
        yield failed("keys.known", error.detail)
        return
    pinned = {key for log in known.logs.values() for key in log.keys}
    ours = {
        key for organ in deployment.organs for key in log_signer(settings, organ.log).verifier_keys
    }
    if known.audience != deployment.audience or not ours <= pinned:
        yield failed("keys.known", "The trust file is not this deployment's.")
    elif at >= known.expires:
        yield failed("keys.known", f"The trust file expired on {known.expires:%Y-%m-%d}.")
    elif at >= known.expires - _EXPIRES_SOON:
        yield noted("keys.known", f"The trust file expires on {known.expires:%Y-%m-%d}.")
    else:
        yield passed("keys.known", f"The trust file is good until {known.expires:%Y-%m-%d}.")


def check_clock(
    deployment: Deployment, db: Database, at: datetime, stamps: list[Timestamp]
) -> Findings:
    """This clock against the last commit and against the authorities' stamps."""
    for organ in deployment.organs:
        with db.read() as connection:
            newest = records.newest_checkpoint(connection, organ.log.id)
        if newest is not None and newest.committed_at > at:
            yield failed("clock.monotonic", "The last commit lies in the future of this clock.")
            return
    yield passed("clock.monotonic", "The clock is not behind the last commit.")
    local = all(one.development for organ in deployment.organs for one in organ.authorities)
    if not stamps or local:
        yield noted("clock.attested", "No authority outside this machine tells the time.")
        return
    off = max(abs(stamp.gen_time - at) for stamp in stamps)
    if off > _CLOCK_TOLERANCE:
        yield failed("clock.attested", f"The clock is {off.total_seconds():.0f} s off.")
    else:
        yield passed("clock.attested", "The clock agrees with the authorities.")


def _policy(settings: Settings, organ: OrganSettings) -> Policy:
    if organ.witness_policy_file is None:
        raise SettingsInvalid(f"The organ {organ.id} has witnesses and no policy.")
    return parse_policy((settings.folder / organ.witness_policy_file).read_bytes())


def _der(raw: bytes) -> bytes:
    if not raw.lstrip().startswith(b"-----BEGIN"):
        return raw
    return x509.load_pem_x509_certificate(raw).public_bytes(Encoding.DER)
