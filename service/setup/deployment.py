"""`fengni init`: everything that a deployment is, made once.

Does: makes keys, stores, an empty log, the trust file and the settings that hold them together,
and logs the first entry: the registrar enrols the server's key. All of it is made in a folder
beside the final one, which is renamed as the last step: a killed `init` leaves no half deployment
behind. Refuses a folder that holds anything, and a registrar's folder that is taken.

    FOLDER/deployment.json known-keys.json witness-policy.txt
    FOLDER/keys/ db/ objects/ staging/ tiles/ heads/ text-keys/ exports/
    FOLDER/registrar/ (or where it was said): not the server's; it belongs on another machine
"""

import base64
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from evidence.errors import EvidenceError
from evidence.keyring import Registrar
from evidence.keys import P256Signer
from evidence.kinds.members import Role
from evidence.known_keys import KnownKeys, KnownLog, PinnedRoot, write_known_keys
from evidence.statement import SignedStatement
from evidence.tlog.checkpoint import check_origin
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy
from service.context import (
    Context,
    fresh_salt,
    log_stores,
    open_context,
    open_heads,
    system_clock,
)
from service.data_keys import make_keys, open_keys
from service.deployment_file import (
    DEPLOYMENT_FILE,
    AuthoritySettings,
    Deployment,
    LogSettings,
    OrganSettings,
    Places,
    WitnessSettings,
    database_url,
)
from service.key_files import log_signer
from service.law.refusals import Refusal
from service.objects import make_objects
from service.private_files import create_private, make_private_folder, write_private
from service.settings import Settings, read_environment
from service.setup.databases import (
    IN_THE_FOLDER,
    Databases,
    SetupRefused,
    databases_of,
    prepare_databases,
    require_unused,
)
from service.setup.parties import Authority, Witness, witness_policy
from service.setup.registrar import Desk, Rejected, create_desk, request_key
from service.stores import make_staging, make_tiles
from storage.db.engine import Database
from storage.log import Outcome, create_log

KEK_FILE = "keys/kek"
KNOWN_KEYS_FILE = "known-keys.json"
POLICY_FILE = "witness-policy.txt"
DEVELOPMENT_MARK = "DEVELOPMENT-ONLY.txt"
_DEVELOPMENT_NOTICE = """\
This deployment was made for a demonstration. Its keys, its time-stamp authority and its
witnesses all lie on one machine in one hand: what they sign proves nothing to a stranger.
The server refuses to start on it in production mode.
"""
_FOLDERS = ("keys", "db", "text-keys", "heads", "tiles", "exports")
_SUBMIT_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be made.

    Attributes:
        folder: the deployment's; must not be there, or be empty.
        registrar_folder: the registrar's; must not be there.
        audience: the deployment's stable id.
        organ: the organ's id.
        log_id: the log's id in addresses.
        origin: the log's name in checkpoints.
        authorities: where time-stamps come from.
        witnesses: told the log's keys, says who cosigns; a majority of them must.
        valid_days: for how long known-keys.json is trusted.
        development: whether all of it is for a demonstration only.
        databases: where database and heads are, where they are no files in the folder.
        variables: settings that win over the environment's, such as those of a bucket.
    """

    folder: Path
    registrar_folder: Path
    audience: str
    organ: str
    log_id: str
    origin: str
    authorities: tuple[Authority, ...] = ()
    witnesses: Callable[[tuple[VerifierKey, ...]], tuple[Witness, ...]] = lambda _keys: ()
    valid_days: int = 730
    development: bool = False
    databases: Databases = IN_THE_FOLDER
    variables: Mapping[str, str] | None = None


def create_deployment(plan: Plan, *, more: Callable[[Context, Desk], None] | None = None) -> None:
    """Make a deployment, all or nothing.

    Args:
        plan: what to make.
        more: called with the open deployment before it is moved into place, to enrol more keys.

    Raises:
        SetupRefused: the folder holds something, or a name is malformed.
        StorageError: a store could not be made.
    """
    making = plan.folder.parent / f".{plan.folder.name}.making"
    own_desk = plan.registrar_folder.is_relative_to(plan.folder)
    _require_free(plan)
    require_unused(plan.databases, plan.log_id, plan.origin)
    shutil.rmtree(making, ignore_errors=True)  # what a killed attempt left; it held nothing yet
    make_private_folder(making)
    desk = create_desk(
        making / plan.registrar_folder.relative_to(plan.folder)
        if own_desk
        else plan.registrar_folder,
        audience=plan.audience,
        organ=plan.organ,
        clock=system_clock,
        fresh_salt=fresh_salt,
    )
    try:
        deployment = _write_settings(plan, making, desk)
        settings = read_environment(folder=making, variables=plan.variables)
        _make_stores(plan, settings, deployment)
        context = open_context(settings)
        try:
            enrol_server(context, plan.organ, desk)
            if more is not None:
                more(context, desk)
        finally:
            context.close()
    except BaseException:
        if not own_desk:
            shutil.rmtree(plan.registrar_folder, ignore_errors=True)
        raise
    if plan.folder.exists():
        plan.folder.rmdir()
    making.rename(plan.folder)


def enrol_server(context: Context, organ: str, desk: Desk) -> None:
    """Enrol the server's key, the log's first entry."""
    signer = context.organs[organ].admission.signer
    request = request_key(
        signer,
        audience=desk.audience,
        organ=organ,
        role=Role.SERVER,
        holder="server",
        at=context.clock(),
        salt=fresh_salt(),
    )
    desk.enrol(request, lambda signed: submit_offline(context, organ, signed))


def submit_offline(context: Context, organ: str, signed: SignedStatement) -> None:
    """Hand a registrar's statement to a log that no server has open.

    Raises:
        Rejected: the log refused it.
        StorageError: the log takes nothing now.
    """
    _require_taken(context.organs[organ].admission.submit_signed([signed]))


def begin_offline(context: Context, organ: str, signed: SignedStatement) -> None:
    """Hand a registrar's succession to a new log that no server has open.

    Raises:
        Rejected: the log refused it.
        StorageError: the log takes nothing now.
    """
    try:
        waiting = context.organs[organ].admission.begin(signed)
    except (EvidenceError, Refusal) as error:
        raise Rejected(error.detail) from error
    _require_taken(waiting)


def _require_taken(waiting: Future[list[Outcome]]) -> None:
    [outcome] = waiting.result(timeout=_SUBMIT_TIMEOUT_S)
    if isinstance(outcome, (EvidenceError, Refusal)):
        raise Rejected(outcome.detail) from outcome
    if isinstance(outcome, Exception):
        raise outcome


def _require_free(plan: Plan) -> None:
    """Check everything that can be checked before anything is made."""
    try:
        check_origin(plan.origin)
    except EvidenceError as error:
        raise SetupRefused(f"The origin is malformed: {error.detail}.") from error
    if plan.folder.exists() and any(plan.folder.iterdir()):
        raise SetupRefused(f"{plan.folder} holds something; a deployment is made in a new folder.")
    if plan.registrar_folder.exists():
        raise SetupRefused(f"{plan.registrar_folder} exists; the registrar gets a new folder.")
    if not plan.folder.parent.is_dir():
        raise SetupRefused(f"{plan.folder.parent} is not a folder.")


def _write_settings(plan: Plan, making: Path, desk: Desk) -> Deployment:
    """Make the server's keys and the files that say what belongs together."""
    for name in _FOLDERS:
        make_private_folder(making / name)
    log = LogSettings(
        id=plan.log_id,
        origin=plan.origin,
        ed25519_key_file=f"keys/{plan.log_id}-ed25519.pem",
        ml_dsa_key_file=f"keys/{plan.log_id}-ml-dsa-44.pem",
    )
    server_key_file = f"keys/{plan.organ}-server.pem"
    create_private(making / log.ed25519_key_file, pem_of(Ed25519PrivateKey.generate()))
    create_private(making / log.ml_dsa_key_file, pem_of(MLDSA44PrivateKey.generate()))
    create_private(making / server_key_file, P256Signer.generate().to_pem())
    for authority in plan.authorities:
        create_private(making / _root_file(authority), authority.root)
    log_keys = _log_keys(making, log)
    witnesses = plan.witnesses(log_keys)
    deployment = Deployment(
        audience=plan.audience,
        organs=(
            OrganSettings(
                id=plan.organ,
                log=log,
                server_key_file=server_key_file,
                registrars=(_base64(desk.signer.public_key),),
                authorities=tuple(_authority_settings(item) for item in plan.authorities),
                witnesses=tuple(
                    WitnessSettings(name=item.name, url=item.url, development=item.development)
                    for item in witnesses
                ),
                witness_policy_file=POLICY_FILE,
            ),
        ),
        database_url=plan.databases.url,
        heads_url=plan.databases.heads_url,
        keys_url=plan.databases.keys_url,
        kek_file=KEK_FILE,
        development_keys=plan.development,
    )
    write_deployment(making, deployment)
    policy = witness_policy(log_keys, witnesses)
    create_private(making / POLICY_FILE, policy.encode())
    create_private(making / KNOWN_KEYS_FILE, _known_keys(plan, desk, log_keys, policy))
    if plan.development:
        create_private(making / DEVELOPMENT_MARK, _DEVELOPMENT_NOTICE.encode())
    return deployment


def _log_keys(making: Path, log: LogSettings) -> tuple[VerifierKey, ...]:
    return log_signer(read_environment(folder=making), log).verifier_keys


def write_deployment(folder: Path, deployment: Deployment) -> None:
    """Write the deployment file in one step."""
    raw = msgspec.json.format(msgspec.json.encode(deployment), indent=2)
    write_private(folder / DEPLOYMENT_FILE, raw + b"\n")


def _known_keys(plan: Plan, desk: Desk, log_keys: tuple[VerifierKey, ...], policy: Policy) -> bytes:
    """The trust file's first version, signed by the registrar's root key."""
    at = desk.clock()
    root = desk.root_signer
    content = KnownKeys(
        sha256="",
        version=1,
        audience=plan.audience,
        expires=at + timedelta(days=plan.valid_days),
        root_threshold=1,
        root_keys=(root.public_key,),
        registrars=(Registrar(organ=plan.organ, public_key=desk.signer.public_key),),
        logs={
            plan.origin: KnownLog(origin=plan.origin, keys=log_keys, ml_dsa_from=at, policy=policy)
        },
        tsa_roots=tuple(
            PinnedRoot(name=item.name, certificate=item.root) for item in plan.authorities
        ),
    )
    return write_known_keys(content, [root])


def _make_stores(plan: Plan, settings: Settings, deployment: Deployment) -> None:
    """Make the database, every store and each organ's empty log."""
    places = Places(settings.folder)
    named = plan.databases
    owners = named.owner_url, named.heads_owner_url, named.keys_owner_url
    prepare_databases(databases_of(settings, deployment, *owners), places)
    objects = make_objects(settings, system_clock, fresh_salt()[:12])
    write_deployment(
        settings.folder, msgspec.structs.replace(deployment, object_store=objects.store_id)
    )
    make_staging(settings, system_clock)
    make_keys(
        settings,
        deployment,
        owner_url=named.keys_owner_url,
        service_role=named.keys_role,
    )
    db = Database(database_url(settings, deployment))
    try:
        for organ in deployment.organs:
            make_tiles(settings, organ.log.id)
            with (
                open_heads(settings, deployment) as heads,
                open_keys(settings, deployment, db) as keys,
            ):
                create_log(
                    log_stores(settings, organ.log, db, keys, heads),
                    organ=organ.id,
                    signer=log_signer(settings, organ.log),
                    clock=system_clock,
                )
    finally:
        db.close()


def _authority_settings(authority: Authority) -> AuthoritySettings:
    return AuthoritySettings(
        name=authority.name,
        url=authority.url,
        root_files=(_root_file(authority),),
        development=authority.development,
    )


def _root_file(authority: Authority) -> str:
    return f"keys/{authority.name}-root.der"


def pem_of(key: Ed25519PrivateKey | MLDSA44PrivateKey) -> bytes:
    """A log's private key as its file holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
