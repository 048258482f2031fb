"""The context: everything that a request or a worker may touch, opened once, frozen.

Does: opens the stores and logs that the settings name, and is the one place that asks for the
clock and for fresh ids. Refuses to make anything that is missing (that is `fengni init`) and to
start where two organs would share a log.
"""

import secrets
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from uuid import uuid4

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate

from evidence.errors import EvidenceError
from evidence.keyring import Registrar
from evidence.keys import P256Signer
from evidence.schema import decode_base64
from evidence.timestamp import TimestampRoot
from evidence.tlog.checkpoint import LogSigner
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy, parse_policy
from service.access.bearer import Doorkeeper
from service.admission import Admission, KeysInStep
from service.law.signing import House
from service.metrics import Metrics
from service.problems import Problem
from service.settings import (
    Deployment,
    LogSettings,
    OrganSettings,
    Places,
    Settings,
    SettingsInvalid,
    read_deployment,
)
from storage.db.engine import Database
from storage.log import CommittedHead, Log, LogStores, WitnessAnswer
from storage.log.closed import ClosedLog
from storage.log.heads import FileHead
from storage.log.texts import TextKeys
from storage.objects import ObjectStore
from storage.objects.local import LocalObjects
from storage.staging import Staging
from storage.tiles import LocalTiles


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
        staging: uploads on their way.
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
    staging: Staging
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
        witnessed: asks an organ's witnesses what they know of its log, before it may sign; where
            too few answer the log is open for reading until `Log.confirm`.
        published: told of each publication, in the publisher's thread; must only wake somebody.
        clock: now, UTC.
        metrics: counts; new ones where none are given.
        deployment: instead of what the deployment file says, for one that is about to change.

    Raises:
        SettingsInvalid: the deployment file or a key file is wrong or unsafe.
        StorageError: a store is missing, damaged, held by another process, or rolled back.
    """
    deployment = deployment or read_deployment(settings)
    places = Places(settings.folder)
    with ExitStack() as opening:
        db = Database(deployment.database_url or places.database_url)
        opening.callback(db.close)
        db.require_newest()
        texts = TextKeys(places.text_keys)
        opening.callback(texts.close)
        objects = LocalObjects(places.objects)
        staging = Staging(places.staging, reserve_bytes=settings.disk_reserve_bytes)
        organs: dict[str, Organ] = {}
        closed: dict[str, Closed] = {}
        for organ in deployment.organs:
            stores = log_stores(places, organ.log, db, texts)
            log = _open_log(stores, organ, settings, witnessed, published, clock)
            opening.callback(log.close)
            organs[organ.id] = _open_organ(settings, deployment, organ, db, log, clock)
            for ended in organ.closed_logs:
                keys = log_signer(settings, ended).verifier_keys
                reading = ClosedLog(log_stores(places, ended, db, texts), organ.id, keys)
                closed[ended.id] = Closed(organ=organ, settings=ended, log=reading)
        return Context(
            settings=settings,
            deployment=deployment,
            places=places,
            db=db,
            objects=objects,
            staging=staging,
            organs=MappingProxyType(organs),
            closed=MappingProxyType(closed),
            doorkeeper=Doorkeeper(db, clock, settings.token_cache_s),
            metrics=metrics or Metrics(),
            clock=clock,
            new_id=fresh_id,
            close=opening.pop_all().close,
        )


def log_stores(places: Places, log: LogSettings, db: Database, texts: TextKeys) -> LogStores:
    """Where one log of a deployment is kept."""
    return LogStores(
        db=db,
        log_id=log.id,
        origin=log.origin,
        tiles=LocalTiles(places.tiles(log.id)),
        heads=FileHead(places.head(log.id)),
        texts=texts,
    )


def log_signer(settings: Settings, log: LogSettings) -> LogSigner:
    """The keys of one log, from their files.

    Raises:
        SettingsInvalid: a file is missing or holds another kind of key.
    """
    ed25519 = _private_key(settings, log.ed25519_key_file)
    ml_dsa = _private_key(settings, log.ml_dsa_key_file)
    if not isinstance(ed25519, Ed25519PrivateKey) or not isinstance(ml_dsa, MLDSA44PrivateKey):
        raise SettingsInvalid(f"A key file of the log {log.id} holds another kind of key.")
    return LogSigner(log.origin, ed25519, ml_dsa)


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
    heard = witnessed(organ, signer.verifier_keys, _policy(settings, organ), stores.db)
    return Log.open(
        stores,
        signer=signer,
        clock=clock,
        witnessed=heard.answers,
        confirmed=heard.enough,
        published=lambda head: published(log_id, head),
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
    with _named(organ):
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
                signer=P256Signer.from_pem(_read_file(settings, organ.server_key_file)),
                clock=clock,
                fresh_salt=fresh_salt,
            ),
            log_keys=log_signer(settings, organ.log).verifier_keys,
            policy=_policy(settings, organ),
            roots=tuple(
                TimestampRoot(certificate=_certificate(settings, name))
                for authority in organ.authorities
                for name in authority.root_files
            ),
        )


def _policy(settings: Settings, organ: OrganSettings) -> Policy | None:
    name = organ.witness_policy_file
    with _named(organ):
        return parse_policy(_read_file(settings, name)) if name else None


@contextmanager
def _named(organ: OrganSettings) -> Generator[None]:
    """Say whose key or policy is wrong."""
    try:
        yield
    except EvidenceError as error:
        raise SettingsInvalid(f"The organ {organ.id}: {error.detail}") from error


def _private_key(settings: Settings, name: str) -> object:
    try:
        return load_pem_private_key(_read_file(settings, name), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsInvalid(f"{name} holds no readable private key.") from error


def _certificate(settings: Settings, name: str) -> bytes:
    """A certificate as DER; the file may be PEM or DER."""
    data = _read_file(settings, name)
    try:
        load = load_pem_x509_certificate if data.startswith(b"-----") else load_der_x509_certificate
        return load(data).public_bytes(Encoding.DER)
    except ValueError as error:
        raise SettingsInvalid(f"{name} holds no readable certificate.") from error


def _read_file(settings: Settings, name: str) -> bytes:
    try:
        return (settings.folder / name).read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"{name} cannot be read.") from error
