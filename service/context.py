"""The context: everything that a request or a worker may touch, opened once, frozen.

Does: opens the stores and logs that the settings name, and is the one place that asks for the
clock and for fresh ids. Refuses to make anything that is missing (that is `fengni init`) and to
start where two organs would share a log.
"""

import secrets
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
from service.admission import Admission
from service.data_keys import open_keys
from service.deployment_file import (
    Deployment,
    LogSettings,
    OrganSettings,
    Places,
    database_url,
    heads_url,
    read_deployment,
)
from service.joining import (
    Published,
    Relay,
    Witnessed,
    nobody_asked,
    nobody_told,
    open_log,
)
from service.key_files import log_signer, naming, read_key_file, timestamp_roots, witness_policy
from service.law.signing import House
from service.logs import get_logger
from service.metrics import Metrics
from service.objects import open_objects
from service.problems import Problem
from service.production import require_production
from service.ring import KeysInStep
from service.settings import Settings
from service.stores import open_staging, open_tiles
from storage.db.engine import Database
from storage.db.notices import Notices
from storage.keys import KeyStore
from storage.log import LogStores, OpenLog
from storage.log.closed import ClosedLog
from storage.log.cosigned import Cosignatures
from storage.log.heads import FileHead
from storage.log.joined import JoinedLog
from storage.log.shared_heads import SharedHead
from storage.objects import ObjectStore
from storage.objects.selftest import Verdict
from storage.records import StoredCosignature
from storage.staging import Staging

_log = get_logger("context")


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
    def log(self) -> OpenLog:
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


def open_context(
    settings: Settings,
    *,
    witnessed: Witnessed = nobody_asked,
    published: Published = nobody_told,
    clock: Callable[[], datetime] = system_clock,
    metrics: Metrics | None = None,
    deployment: Deployment | None = None,
    relay: Relay | None = None,
) -> Context:
    """Open everything that the settings name.

    Args:
        settings: from the environment.
        witnessed: asks an organ's witnesses what they know of its log, before it may sign.
        published: told of each publication, in the publisher's thread; must only wake somebody.
        clock: now, UTC.
        metrics: counts.
        deployment: instead of what the deployment file says, where it is about to change.
        relay: makes couriers, where several nodes share the logs; else each log is led here.

    Raises:
        SettingsInvalid, StorageError: a file is wrong, or a store missing, damaged or put back.
    """
    deployment, metrics = deployment or _safe_deployment(settings), metrics or Metrics()
    with ExitStack() as opening:
        db = opening.enter_context(closing(Database(database_url(settings, deployment))))
        db.require_schema()
        heads = opening.enter_context(open_heads(settings, deployment))
        keys = opening.enter_context(open_keys(settings, deployment, db))
        objects = open_objects(settings, clock, deployment.object_store)
        staging = open_staging(settings, clock, objects.store)
        notices = opening.enter_context(_listening(db, relay))
        organs, closed = dict[str, Organ](), dict[str, Closed]()
        for organ in deployment.organs:
            stores = log_stores(settings, organ.log, db, keys, heads)
            log = open_log(stores, organ, settings, witnessed, published, clock, notices)
            opening.callback(log.close)
            organs[organ.id] = _open_organ(settings, deployment, organ, db, log, clock)
            _begin(organs[organ.id], relay, metrics)
            for one in organ.closed_logs:
                stores = log_stores(settings, one, db, keys, heads)
                closed[one.id] = _open_closed(stores, organ, one, settings, metrics)
        return Context(
            settings=settings,
            deployment=deployment,
            places=Places(settings.folder),
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


def _safe_deployment(settings: Settings) -> Deployment:
    deployment = read_deployment(settings)
    require_production(settings, deployment)
    return deployment


@contextmanager
def _listening(db: Database, relay: Relay | None) -> Generator[Notices | None]:
    """Be woken by other nodes for the length of the block; None where there are none."""
    if relay is None or db.path is not None:
        yield None
        return
    notices = Notices(db)
    notices.start()
    try:
        yield notices
    finally:
        notices.close()


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
    settings: Settings, log: LogSettings, db: Database, keys: KeyStore, heads: Database | None
) -> LogStores:
    """Where one log of a deployment is kept."""
    places = Places(settings.folder)
    return LogStores(
        db=db,
        log_id=log.id,
        origin=log.origin,
        tiles=open_tiles(settings, log.id),
        heads=(FileHead(places.head(log.id)) if heads is None else SharedHead(heads, log.origin)),
        texts=keys,
    )


def _open_organ(
    settings: Settings,
    deployment: Deployment,
    organ: OrganSettings,
    db: Database,
    log: OpenLog,
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
                keys=KeysInStep(
                    db, organ.log.id, deployment.audience, registrars, leads=lambda: log.leads
                ),
                signer=P256Signer.from_pem(read_key_file(settings, organ.server_key_file)),
                clock=clock,
                fresh_salt=fresh_salt,
            ),
            log_keys=log_signer(settings, organ.log).verifier_keys,
            policy=witness_policy(settings, organ),
            roots=timestamp_roots(settings, organ),
        )


def _begin(organ: Organ, relay: Relay | None, metrics: Metrics) -> None:
    """Join the organ's log where it is one that several nodes have open."""
    _expect_witnesses(organ.log.cosignatures, organ.settings.log, organ.policy, metrics)
    if relay is not None and isinstance(organ.log, JoinedLog):
        organ.log.join(relay(organ.admission))


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
