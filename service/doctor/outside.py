"""What stands outside a deployment, or is told from outside: witnesses, authorities, keys, clock.

Does: asks them and compares. Refuses to take an unanswered question for a good answer, and the
word of a local authority for an independent time.
"""

import contextlib
from datetime import datetime, timedelta
from secrets import randbits

from evidence.attested import moment
from evidence.errors import EvidenceError
from evidence.keyring import Keyring, Registrar
from evidence.keys import P256Signer
from evidence.known_keys import parse_known_keys
from evidence.merkle import Frontier
from evidence.schema import decode_base64
from evidence.statement import parse_statement
from evidence.timestamp import Timestamp, verify_timestamp
from evidence.tlog.checkpoint import Checkpoint, SignedCheckpoint
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy
from service.deployment_file import AuthoritySettings, Deployment, OrganSettings, WitnessSettings
from service.doctor.attested import to_der
from service.doctor.diagnosis import Findings, failed, noted, passed, unknown
from service.key_files import log_signer, witness_policy
from service.proofs import count_owed, owed_checkpoints
from service.settings import Settings
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
from storage.errors import IntegrityAlarm, StorageError
from storage.log import LogStores
from storage.log.rows import leaf_hashes

_TIMEOUT_S = 5.0
_LANDING = timedelta(seconds=30)  # from a witness's clock to a row of ours
_CLOCK_TOLERANCE = timedelta(seconds=5)
_EXPIRES_SOON = timedelta(days=30)


def check_witnesses(
    settings: Settings, organ: OrganSettings, stores: LogStores, at: datetime
) -> Findings:
    """What each witness remembers of the log must be what we have."""
    if not organ.witnesses:
        yield noted("witness", "Nobody witnesses this log.")
        return
    policy = witness_policy(settings, organ)
    if policy is None:
        yield failed("witness", f"The organ {organ.id} has witnesses and no policy.")
        return
    log_keys = log_signer(settings, organ.log).verifier_keys
    for witness in organ.witnesses:
        yield from _check_witness(witness, policy, organ, log_keys, stores, at)


def _check_witness(
    witness: WitnessSettings,
    policy: Policy,
    organ: OrganSettings,
    log_keys: tuple[VerifierKey, ...],
    stores: LogStores,
    at: datetime,
) -> Findings:
    name = f"witness.{witness.name}"
    address = WitnessAddress(url=witness.url, keys=witness_keys(policy, witness))
    try:
        signed = latest(address, organ.log.origin, log_keys, timeout_s=_TIMEOUT_S)
    except (WitnessUnavailable, WitnessRefusal):
        yield unknown(name, "The witness does not answer.")
        return
    except EvidenceError as error:
        yield failed(name, f"What the witness answers does not verify: {error.detail}.")
        return
    if signed is None:
        yield noted(name, "The witness has not cosigned this log yet.")
        return
    size = signed.checkpoint.size
    if (fault := _tree_fault(stores, signed.checkpoint)) or (
        fault := _lost(stores, signed, address.keys, at)
    ):
        yield failed(name, fault)
    else:
        yield passed(name, f"The witness saw {size} entries, as we have them.")


def _tree_fault(stores: LogStores, seen: Checkpoint) -> str:
    """How the tree that a witness saw is not ours; empty where it is.

    Another root is an accusation, so it takes two roots of one size; a tree that is merely larger
    than ours says that we are the old copy.
    """
    with stores.db.read() as connection:
        newest = records.newest_checkpoint(connection, stores.log_id)
        same = records.checkpoints_of(connection, stores.log_id, [seen.size]).get(seen.size)
    size = 0 if newest is None else newest.size
    if seen.size > size:
        return (
            f"We are behind: the witness saw {seen.size} entries, the database has {size}."
            " It was put back, or its end was cut off."
        )
    root = None if same is None else same.root
    if root is None:  # only checkpoints of batches are kept; the tree has every size
        with contextlib.suppress(StorageError, EvidenceError):
            root = _root_at(stores, seen.size)
    if root is None:
        return f"The witness saw {seen.size} entries; we have no root of that size to compare."
    if root != seen.root:
        return f"The witness saw {seen.size} entries under a root that is not ours."
    return "" if same else f"The witness saw {seen.size} entries; that checkpoint of ours is gone."


def _root_at(stores: LogStores, size: int) -> bytes:
    """Our root at a size, from the rows of the leaves."""
    frontier = Frontier.empty()
    with stores.db.read() as connection:
        for _, leaf_hash in leaf_hashes(connection, stores.log_id, 0, size):
            frontier.append(leaf_hash)
    if frontier.size != size:
        raise IntegrityAlarm("a record is missing")
    return frontier.root()


def _lost(
    stores: LogStores, signed: SignedCheckpoint, keys: tuple[VerifierKey, ...], at: datetime
) -> str:
    """Which of its cosignatures a witness made long enough ago, and is not kept here."""
    size = signed.checkpoint.size
    with stores.db.read() as connection:
        rows = records.cosignatures_of(connection, stores.log_id, size)
    kept = {(row.witness, row.witness_key) for row in rows}
    for line in signed.note.signatures:
        made_by = (line.name, line.key_id.hex())
        if made_by in kept or not any(key.made(line) for key in keys):
            continue
        made_at = moment(int.from_bytes(line.value[:8]))
        if made_at <= at - _LANDING:
            when = f"{made_at:%Y-%m-%d %H:%M:%S} UTC"
            return f"The witness cosigned {size} entries at {when}; that is not kept here: lost?"
    return ""


def check_authority(
    settings: Settings, authority: AuthoritySettings, at: datetime, stamps: list[Timestamp]
) -> Findings:
    """Have it stamp something, and verify that under its pinned root; keep the stamp."""
    name = f"time.{authority.name}"
    message = b"fengni doctor " + at.isoformat().encode()
    try:
        roots = [to_der((settings.folder / file).read_bytes()) for file in authority.root_files]
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
