"""The context: everything that a request or a worker may touch, opened once, frozen.

Does: opens the stores and logs that the settings name, and is the one place that asks for the
clock and for fresh ids. Refuses to make anything that is missing (that is `fengni init`) and to
start where two organs would share a log.
"""

import os
import secrets
import socket
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from uuid import uuid4

from evidence.keyring import Registrar
from evidence.keys import P256Signer
from evidence.schema import decode_base64
from evidence.timestamp import TimestampRoot
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy
from service.access.bearer import Doorkeeper
from service.admission import Admission, KeysInStep
from service.data_keys import open_keys
from service.key_files import log_signer, naming, read_key_file, timestamp_roots, witness_policy
from service.law.signing import House
from service.logs import get_logger
from service.metrics import Metrics
from service.objects import open_objects
from service.problems import Problem
from service.settings import (
    Deployment,
    LogSettings,
    OrganSettings,
    Places,
    Settings,
    database_url,
    heads_url,
    read_deployment,
)
from storage.db.engine import Database
from storage.keys import KeyStore
from storage.log import Candidate, CommittedHead, Log, LogStores, WitnessAnswer
from storage.log.closed import ClosedLog
from storage.log.cosigned import Cosignatures
from storage.log.heads import FileHead
from storage.log.leading import LEASE_S
from storage.log.shared_heads import SharedHead
from storage.objects import ObjectStore
from storage.objects.selftest import Verdict
from storage.records import StoredCosignature
from storage.staging import Staging
from storage.tiles import LocalTiles

_log = get_logger("context")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What witnesses told of a log.

    Attributes:
        answers: of those that answered.
        enough: whether these are enough for the log to sign.
    """

    answers: tuple[WitnessAnswer, ...]
    enough: bool


Witnessed = Callable[[OrganSettings, tuple[VerifierKey, ...], Policy | None, Database], Heard]
Published = Callable[[str, CommittedHead], None]
_LEADER_WAIT_S = 3 * LEASE_S
"""A start waits so long for the leader before it, which may have been killed a moment ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Organ:
    """One organ with its open log.

    Attributes:
        id: as in statements.
        settings: what the deployment file says of it.
        admission: the door to its log.
        log_keys: public keys of its log.
        policy: which witnesses count, or None where none are named.
        roots: roots of the time-stamp authorities that count.
    """

    id: str
    settings: OrganSettings
    admission: Admission
    log_keys: tuple[VerifierKey, ...]
    policy: Policy | None
    roots: tuple[TimestampRoot, ...]

    @property
    def log(self) -> Log:
        """The open log."""
        return self.admission.log

    @property
    def log_id(self) -> str:
        """The log's id in the database and in URLs."""
        return self.admission.house.log_id

    @property
    def origin(self) -> str:
        """The log's name in checkpoints."""
        return self.admission.house.log


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A log that has ended.

    Attributes:
        organ: what the deployment file says of its organ.
        settings: what it says of the log.
        log: what it published.
    """

    organ: OrganSettings
    settings: LogSettings
    log: ClosedLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything that is open.

    Attributes:
        settings: from the environment.
        deployment: from the deployment file.
        places: where things lie.
        db: the database.
        objects: the object store.
        verdict: of the object store's self-test, where it has one.
        staging: uploads on their way.
        keys: of texts and of sealed contents.
        organs: by id.
        closed: the organs' logs that have ended, by their ids.
        doorkeeper: knows the tokens.
        metrics: counts.
        clock: now, UTC.
        new_id: a fresh UUID as text.
        close: lets go of everything, last opened first.
    """

    settings: Settings
    deployment: Deployment
    places: Places
    db: Database
    objects: ObjectStore
    verdict: Verdict | None
    staging: Staging
    keys: KeyStore
    organs: Mapping[str, Organ]
    closed: Mapping[str, Closed]
    doorkeeper: Doorkeeper
    metrics: Metrics
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    close: Callable[[], None]

    def organ(self, organ_id: str) -> Organ:
        """An organ of this deployment.

        Raises:
            Problem: `unauthenticated`: a token outlived its organ.
        """
        if organ_id not in self.organs:
            raise Problem("unauthenticated", "The bearer token is not valid.")
        return self.organs[organ_id]

    def organ_of_log(self, log_id: str) -> Organ:
        """The organ whose log has this id.

        Raises:
            Problem: `log_unknown`.
        """
        for organ in self.organs.values():
            if organ.log_id == log_id:
                return organ
        raise Problem("log_unknown", "This deployment keeps no such log.")


def system_clock() -> datetime:
    """Now, UTC-aware."""
    return datetime.now(UTC)


def fresh_salt() -> str:
    """128 random bits, 32 hex digits, for a statement."""
    return secrets.token_hex(16)


def fresh_id() -> str:
    """A UUID as text."""
    return str(uuid4())


def candidate_of(settings: Settings) -> Candidate:
    """This process, as one that would lead a log."""
    node = f"{settings.node or socket.gethostname()[:63]} pid {os.getpid()}"
    return Candidate(node=node, wait_s=_LEADER_WAIT_S)


def nobody_asked(
    _organ: OrganSettings,
    _log_keys: tuple[VerifierKey, ...],
    _policy: Policy | None,
    _db: Database,
) -> Heard:
    """No witness is asked: for a deployment that is being made, and whose log is new."""
    return Heard(answers=(), enough=True)


def nobody_told(_log: str, _head: CommittedHead) -> None:
    """Nobody waits for a publication."""


def open_context(
    settings: Settings,
    *,
    witnessed: Witnessed = nobody_asked,
    published: Published = nobody_told,
    clock: Callable[[], datetime] = system_clock,
    metrics: Metrics | None = None,
    deployment: Deployment | None = None,
) -> Context:
    """Open everything that the settings name.

    Args:
        settings: from the environment.
        witnessed: asks an organ's witnesses what they know of its log, before it may sign; with
            too few answers the log is only read until `Log.confirm`.
        published: told of each publication, in the publisher's thread; must only wake.
        clock: now, UTC.
        metrics: counts; new ones where none are given.
        deployment: instead of the deployment file, for one that is about to change.

    Raises:
        SettingsInvalid: the deployment file or a key file is wrong or unsafe.
        StorageError: a store is missing, damaged, held by another process, or rolled back.
    """
    deployment = deployment or read_deployment(settings)
    places, metrics = Places(settings.folder), metrics or Metrics()
    with ExitStack() as opening:
        db = opening.enter_context(closing(Database(database_url(settings, deployment))))
        db.require_newest()
        heads = opening.enter_context(open_heads(settings, deployment))
        keys = opening.enter_context(open_keys(settings, deployment, db))
        objects = open_objects(settings, clock, deployment.object_store)
        staging = Staging(places.staging, reserve_bytes=settings.disk_reserve_bytes)
        organs, closed = dict[str, Organ](), dict[str, Closed]()
        for organ in deployment.organs:
            stores = log_stores(places, organ.log, db, keys, heads)
            log = _open_log(stores, organ, settings, witnessed, published, clock)
            opening.callback(log.close)
            organs[organ.id] = _open_organ(settings, deployment, organ, db, log, clock)
            _expect_witnesses(log.cosignatures, organ.log, organs[organ.id].policy, metrics)
            for ended in organ.closed_logs:
                stores = log_stores(places, ended, db, keys, heads)
                closed[ended.id] = _open_closed(stores, organ, ended, settings, metrics)
        return Context(
            settings=settings,
            deployment=deployment,
            places=places,
            db=db,
            objects=objects.store,
            verdict=objects.verdict,
            staging=staging,
            keys=keys,
            organs=MappingProxyType(organs),
            closed=MappingProxyType(closed),
            doorkeeper=Doorkeeper(db, clock, settings.token_cache_s),
            metrics=metrics,
            clock=clock,
            new_id=fresh_id,
            close=opening.pop_all().close,
        )


@contextmanager
def open_heads(settings: Settings, deployment: Deployment) -> Generator[Database | None]:
    """The database of the heads, or None where they are files."""
    url = heads_url(settings, deployment)
    db = None if url is None else Database(url)
    try:
        yield db
    finally:
        if db is not None:
            db.close()


def log_stores(
    places: Places, log: LogSettings, db: Database, keys: KeyStore, heads: Database | None
) -> LogStores:
    """Where one log of a deployment is kept."""
    return LogStores(
        db=db,
        log_id=log.id,
        origin=log.origin,
        tiles=LocalTiles(places.tiles(log.id)),
        heads=(FileHead(places.head(log.id)) if heads is None else SharedHead(heads, log.origin)),
        texts=keys,
    )


def _open_log(
    stores: LogStores,
    organ: OrganSettings,
    settings: Settings,
    witnessed: Witnessed,
    published: Published,
    clock: Callable[[], datetime],
) -> Log:
    log_id = organ.log.id
    signer = log_signer(settings, organ.log)
    heard = witnessed(organ, signer.verifier_keys, witness_policy(settings, organ), stores.db)
    return Log.open(
        stores,
        signer=signer,
        clock=clock,
        witnessed=heard.answers,
        confirmed=heard.enough,
        published=lambda head: published(log_id, head),
        candidate=candidate_of(settings),
    )


def _open_organ(
    settings: Settings,
    deployment: Deployment,
    organ: OrganSettings,
    db: Database,
    log: Log,
    clock: Callable[[], datetime],
) -> Organ:
    house = House(
        audience=deployment.audience,
        organ=organ.id,
        log=organ.log.origin,
        log_id=organ.log.id,
        max_content_bytes=settings.max_content_bytes,
    )
    with naming(organ):
        registrars = [
            Registrar(organ=organ.id, public_key=decode_base64(key)) for key in organ.registrars
        ]
        return Organ(
            id=organ.id,
            settings=organ,
            admission=Admission(
                log=log,
                house=house,
                keys=KeysInStep(db, organ.log.id, deployment.audience, registrars),
                signer=P256Signer.from_pem(read_key_file(settings, organ.server_key_file)),
                clock=clock,
                fresh_salt=fresh_salt,
            ),
            log_keys=log_signer(settings, organ.log).verifier_keys,
            policy=witness_policy(settings, organ),
            roots=timestamp_roots(settings, organ),
        )


def _open_closed(
    stores: LogStores,
    organ: OrganSettings,
    ended: LogSettings,
    settings: Settings,
    metrics: Metrics,
) -> Closed:
    log = ClosedLog(stores, organ.id, log_signer(settings, ended).verifier_keys)
    _expect_witnesses(log.cosignatures, ended, witness_policy(settings, organ), metrics)
    return Closed(organ=organ, settings=ended, log=log)


def _expect_witnesses(
    cosignatures: Cosignatures, log: LogSettings, policy: Policy | None, metrics: Metrics
) -> None:
    """Have cosignatures verified before they are shown, and those told that no longer hold."""

    def damaged(row: StoredCosignature) -> None:
        """Tell once that a kept line is left out."""
        metrics.damaged_cosignatures.inc()
        _log.error("cosignature_damaged", log=log.id, size=row.size, witness_key=row.witness_key)

    keys = () if policy is None else policy.witnesses.values()
    cosignatures.expect(keys, damaged)
