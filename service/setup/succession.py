"""`fengni log succeed`: a log ends, and another one under a new origin continues it.

    1. the server is stopped: the predecessor is led, and its head held, while this goes on
    2. the largest tree of it that anybody knows is found: database, head, tiles and witnesses
    3. new keys, stores and an empty log are made beside it
    4. the registrar states the succession, the new log's first entry, and enrols again, in a key
       chain of the new log's own, every key that has not ended
    5. the trust file gets a successor that pins both logs, signed by the registrar's root key
    6. the deployment file names the new log, and the old one as closed

Does: all of it, so that the same command again goes on after a kill. Refuses: to sign anything
more under the old origin; to call an end orderly while leaves are missing, or while something of
the old log is unpublished or waits as work; and to go on without the registrar, whose key is not
the server's.

Log keys are rotated in the same way: each log has its own, and what the old ones signed stays
valid.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.canonical import JSONObject
from evidence.errors import EvidenceError
from evidence.known_keys import KnownLog, check_successor, parse_known_keys, write_known_keys
from evidence.tlog.checkpoint import check_origin, open_checkpoint
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import LogLine, Policy
from service.context import (
    log_stores,
    open_context,
    open_heads,
    system_clock,
)
from service.data_keys import open_keys
from service.deployment_file import (
    Deployment,
    LogSettings,
    OrganSettings,
    database_url,
    read_deployment,
)
from service.joining import candidate_of
from service.key_files import log_signer, witness_policy
from service.private_files import create_private, write_private
from service.settings import Settings
from service.setup.databases import SetupRefused
from service.setup.deployment import (
    KNOWN_KEYS_FILE,
    begin_offline,
    pem_of,
    submit_offline,
    write_deployment,
)
from service.setup.registrar import Desk
from service.stores import make_tiles
from service.transparency.confirming import ask_witnesses
from service.work.counts import waiting_in
from storage import records
from storage.db.engine import Database
from storage.errors import AlreadyExists
from storage.log import LogStores, create_log
from storage.log.heads import Head
from storage.log.leading import lead

REASONS = ("year", "rolled_back", "keys", "moved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """What was made.

    Attributes:
        predecessor: origin of the log that ended.
        size: of the largest tree that is known of it.
        ours: how many of its entries are here.
        log_keys: verifier keys of the new log, for witnesses and monitors.
        known_keys: version of the new trust file; None where the registrar's root key alone
            does not suffice, so that its keepers have to sign one.
    """

    predecessor: str
    size: int
    ours: int
    log_keys: tuple[VerifierKey, ...]
    known_keys: int | None


def succeed_log(
    settings: Settings, desk: Desk, *, log_id: str, origin: str, reason: str
) -> Succeeded:
    """Do the steps of the module for the desk's organ.

    Raises:
        SetupRefused: see the module.
        Rejected: the new log refused a statement.
        StorageError: the server runs, or a store does not answer.
    """
    deployment = read_deployment(settings)
    organ = _organ(deployment, desk, origin, reason)
    with (
        closing(Database(database_url(settings, deployment))) as db,
        open_keys(settings, deployment) as texts,
        open_heads(settings, deployment) as heads,
    ):
        old = log_stores(settings, organ.log, db, texts, heads)
        with lead(old, candidate_of(settings)) as leadership, old.heads.hold():  # 1
            ours, known = _known_tree(settings, organ, old)  # 2
            _require_end(old, ours, known, reason)
            log = LogSettings(**_files(log_id, origin))
            _make_log(settings, organ, log, old, heads)  # 3
            grown = _grown(settings, organ, log)
            body: JSONObject = {
                "log": origin,
                "predecessor": {
                    "log": organ.log.origin,
                    "size": known.size,
                    "root": known.root.hex(),
                },
                "reason": reason,
            }
            leadership.require_now()
            _state(settings, deployment, grown, desk, body)  # 4
            version = _renew_known_keys(settings, grown, desk)  # 5
            organs = tuple(grown if one.id == organ.id else one for one in deployment.organs)
            write_deployment(
                settings.folder, msgspec.structs.replace(deployment, organs=organs)
            )  # 6
    return Succeeded(
        predecessor=organ.log.origin,
        size=known.size,
        ours=ours.size,
        log_keys=log_signer(settings, log).verifier_keys,
        known_keys=version,
    )


def _organ(deployment: Deployment, desk: Desk, origin: str, reason: str) -> OrganSettings:
    """The organ whose registrar this is."""
    if reason not in REASONS:
        raise SetupRefused(f"The reason is one of {', '.join(REASONS)}.")
    try:
        check_origin(origin)
    except EvidenceError as error:
        raise SetupRefused(f"The origin is malformed: {error.detail}.") from error
    found = [one for one in deployment.organs if one.id == desk.organ]
    if not found or desk.audience != deployment.audience:
        raise SetupRefused("The registrar's folder is of another organ or deployment.")
    [organ] = found
    if origin in {log.origin for log in organ.logs}:
        raise SetupRefused(f"{origin} is or was a log of this organ; a successor has a new origin.")
    return organ


def _known_tree(settings: Settings, organ: OrganSettings, old: LogStores) -> tuple[Head, Head]:
    """Our own newest tree, and the largest that anybody knows."""
    with old.db.read() as connection:
        newest = records.newest_checkpoint(connection, old.log_id)
    if newest is None:
        raise SetupRefused("The database does not know the log that should end.")
    ours = Head(size=newest.size, root=newest.root)
    return ours, max([ours, *_claims(settings, organ, old)], key=lambda head: head.size)


def _claims(settings: Settings, organ: OrganSettings, old: LogStores) -> Iterator[Head]:
    yield old.heads.read()
    log_keys = log_signer(settings, organ.log).verifier_keys
    note = old.tiles.checkpoint()
    if note is not None:
        shown = open_checkpoint(note, log_keys).checkpoint
        yield Head(size=shown.size, root=shown.root)
    if organ.witnesses:
        heard = ask_witnesses(organ, log_keys, witness_policy(settings, organ), old.db)
        if not heard.enough:
            raise SetupRefused("Too few witnesses answer to know how far the log was; ask again.")
        for answer in heard.answers:
            if answer.root is not None:
                yield Head(size=answer.size, root=answer.root)


def _require_end(old: LogStores, ours: Head, known: Head, reason: str) -> None:
    """An orderly end has nothing missing, nothing unpublished and no work left."""
    if reason == "rolled_back":
        return
    if known.size > ours.size:
        raise SetupRefused(
            f"Somebody saw {known.size} entries and {ours.size} are here: that is rolled_back."
        )
    note = old.tiles.checkpoint()
    with old.db.read() as connection:
        newest = records.newest_checkpoint(connection, old.log_id)
        waiting = waiting_in(connection, old.log_id)
    if newest is not None and newest.size and (note is None or note != newest.note):
        raise SetupRefused("The log is not published to its end: start the server, then stop it.")
    if waiting:
        raise SetupRefused(
            f"{waiting} pieces of work of the log wait: let the server do them first."
        )


def _files(log_id: str, origin: str) -> dict[str, str]:
    return {
        "id": log_id,
        "origin": origin,
        "ed25519_key_file": f"keys/{log_id}-ed25519.pem",
        "ml_dsa_key_file": f"keys/{log_id}-ml-dsa-44.pem",
    }


def _make_log(
    settings: Settings,
    organ: OrganSettings,
    log: LogSettings,
    old: LogStores,
    heads: Database | None,
) -> None:
    """Make keys and stores of the new log; what an earlier attempt made is taken."""
    keys = {
        log.ed25519_key_file: Ed25519PrivateKey.generate(),
        log.ml_dsa_key_file: MLDSA44PrivateKey.generate(),
    }
    for name, key in keys.items():
        if not (settings.folder / name).exists():
            create_private(settings.folder / name, pem_of(key))
    make_tiles(settings, log.id)
    stores = log_stores(settings, log, old.db, old.texts, heads)
    try:
        create_log(stores, organ=organ.id, signer=log_signer(settings, log), clock=system_clock)
    except AlreadyExists:
        with stores.db.read() as connection:
            if records.log_of(connection, log.id) != (organ.id, log.origin):
                raise SetupRefused(f"The id {log.id} is another log's.") from None


def _grown(settings: Settings, organ: OrganSettings, log: LogSettings) -> OrganSettings:
    """The organ with its new log; the same witnesses in the same quorum are asked about it."""
    policy, name = witness_policy(settings, organ), organ.witness_policy_file
    if policy is not None:
        lines = tuple(LogLine(key=key) for key in log_signer(settings, log).verifier_keys)
        name = f"witness-policy-{log.id}.txt"
        write_private(settings.folder / name, replace(policy, logs=lines).encode())
    return msgspec.structs.replace(
        organ, log=log, closed_logs=(*organ.closed_logs, organ.log), witness_policy_file=name
    )


def _state(
    settings: Settings, deployment: Deployment, organ: OrganSettings, desk: Desk, body: JSONObject
) -> None:
    """Open the new log alone, and let the registrar begin it."""
    alone = msgspec.structs.replace(deployment, organs=(organ,))
    context = open_context(settings, deployment=alone)
    try:
        desk.succeed(
            body,
            lambda signed: begin_offline(context, organ.id, signed),
            lambda signed: submit_offline(context, organ.id, signed),
        )
    finally:
        context.close()


def _renew_known_keys(settings: Settings, organ: OrganSettings, desk: Desk) -> int | None:
    """The trust file's successor, where the registrar's root key alone may sign one."""
    path = settings.folder / KNOWN_KEYS_FILE
    if not path.exists():
        return None
    raw = path.read_bytes()
    known = parse_known_keys(raw)
    root = desk.root_signer
    if organ.log.origin in known.logs:
        return known.version
    if known.root_threshold != 1 or root.public_key not in known.root_keys:
        return None
    policy = witness_policy(settings, organ) or Policy(
        logs=(), witnesses={}, groups=(), quorum="none"
    )
    log = KnownLog(
        origin=organ.log.origin,
        keys=log_signer(settings, organ.log).verifier_keys,
        ml_dsa_from=desk.clock(),
        policy=policy,
    )
    newer = replace(known, version=known.version + 1, logs={**known.logs, log.origin: log})
    written = write_known_keys(newer, [root])
    check_successor(known, written)
    write_private(settings.folder / f"known-keys-v{known.version}.json", raw)
    write_private(path, written)
    return newer.version
