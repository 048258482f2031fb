"""What `fengni init` fixed for one deployment: its file, and where everything lies in its folder.

Does: reads `deployment.json`. Refuses a file that is malformed or contradicts itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from service.retention_classes import ClassName, RetentionClass, class_faults
from service.settings import DatabaseUrl, ServerUrl, Settings, SettingsInvalid, Slug

DEPLOYMENT_FILE = "deployment.json"
WebhookEvent = Literal["capture.stored", "capture.quarantined", "export.ready", "log.alarm"]


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One log: its id in URLs, its origin, and the files of its two keys."""

    id: Slug
    origin: Annotated[str, Meta(pattern=r"^[a-z0-9.-]+(/[a-z0-9.-]+)*$", max_length=255)]
    ed25519_key_file: str
    ml_dsa_key_file: str


class AuthoritySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One RFC 3161 time-stamp authority. `development` marks one that proves nothing."""

    name: str
    url: str
    root_files: tuple[str, ...]
    development: bool = False


class WitnessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One witness: its name as in the policy, and where it takes checkpoints."""

    name: str
    url: str
    development: bool = False


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One subscriber: where events are posted, which, and the file with the keys that sign them."""

    name: Slug
    url: Annotated[str, Meta(pattern=r"^https?://[^@\s]+$", max_length=2048)]
    secret_file: str
    events: Annotated[tuple[WebhookEvent, ...], Meta(min_length=1, max_length=4)]


class OrganSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One organ with its log, keys and outside parties.

    Attributes:
        id: as in statements.
        log: where its statements stand.
        closed_logs: where they stood before; nothing is signed there any more.
        server_key_file: PEM of the key with which the server signs in the organ's name.
        registrars: DER SubjectPublicKeyInfo of its registrars, base64.
        public_tiles: whether anybody may read checkpoint and tiles.
        stamp_captures: whether a time-stamp is fetched over each capture's signature.
        authorities: where time-stamps are fetched.
        witnesses: who cosigns.
        witness_policy_file: C2SP tlog-policy that says how many suffice.
        webhooks: who is told what happens.
        retention: which class of retention a capture has, by its mode, or `*` for any other.
    """

    id: Slug
    log: LogSettings
    server_key_file: str
    registrars: tuple[str, ...]
    closed_logs: tuple[LogSettings, ...] = ()
    public_tiles: bool = True
    stamp_captures: bool = True
    authorities: tuple[AuthoritySettings, ...] = ()
    witnesses: tuple[WitnessSettings, ...] = ()
    witness_policy_file: str | None = None
    webhooks: Annotated[tuple[WebhookSettings, ...], Meta(max_length=16)] = ()
    retention: dict[str, ClassName] = {}

    @property
    def logs(self) -> tuple[LogSettings, ...]:
        """Its log, and those that have ended."""
        return self.log, *self.closed_logs


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `fengni init` fixed for this deployment; paths are relative to its folder.

    Attributes:
        audience: its stable id.
        organs: whose logs it keeps.
        database_url: where its database is, else in its folder.
        heads_url: where the heads of its logs are, else in its folder.
        keys_url: where the keys of texts and contents are, else in its folder.
        kek_file: file of the key-encryption keys that wrap them, if one does.
        object_store: id of the store that its `stored` statements name.
        retention_classes: how long content is kept, and how, each with its legal source.
        development_keys: whether its keys were made for a demonstration.
    """

    audience: Slug
    organs: Annotated[tuple[OrganSettings, ...], Meta(min_length=1, max_length=200)]
    database_url: DatabaseUrl | None = None
    heads_url: ServerUrl | None = None
    keys_url: ServerUrl | None = None
    kek_file: str | None = None
    object_store: str | None = None
    retention_classes: tuple[RetentionClass, ...] = ()
    development_keys: bool = False


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything lies below a deployment's folder.

    The head stores lie apart from the database, and so do the keys of the texts: no copy of one
    folder carries two of them.
    """

    folder: Path

    @property
    def database_url(self) -> str:
        """The default database, as a URL."""
        return f"sqlite:///{self.folder.absolute() / 'db' / 'fengni.db'}"

    @property
    def objects(self) -> Path:
        """The object store."""
        return self.folder / "objects"

    @property
    def staging(self) -> Path:
        """Uploads on their way; on the object store's file system."""
        return self.folder / "staging"

    @property
    def text_keys(self) -> Path:
        """The key file of the encrypted texts."""
        return self.folder / "text-keys" / "texts.db"

    @property
    def exports(self) -> Path:
        """Packages that wait to be fetched."""
        return self.folder / "exports"

    def tiles(self, log: str) -> Path:
        """A log's published files."""
        return self.folder / "tiles" / log

    def head(self, log: str) -> Path:
        """A log's head, alone in its folder."""
        return self.folder / "heads" / log / "head"


def read_deployment(settings: Settings) -> Deployment:
    """Read the deployment file; what production mode refuses in it, `service.production` says.

    Raises:
        SettingsInvalid: the file is missing, malformed, or contradicts itself.
    """
    path = settings.folder / DEPLOYMENT_FILE
    try:
        deployment = msgspec.json.decode(path.read_bytes(), type=Deployment)
    except FileNotFoundError as error:
        raise SettingsInvalid(f"{path} is missing; make it with `fengni init`.") from error
    except msgspec.DecodeError as error:
        raise SettingsInvalid(f"{path} is malformed: {error}.") from error
    _require_distinct([organ.id for organ in deployment.organs], "organ")
    for organ in deployment.organs:
        _require_distinct([hook.name for hook in organ.webhooks], "webhook")
    logs = [log for organ in deployment.organs for log in organ.logs]
    _require_distinct([log.id for log in logs], "log id")
    _require_distinct([log.origin for log in logs], "log origin")
    by_mode = [organ.retention for organ in deployment.organs]
    for fault in class_faults(deployment.retention_classes, by_mode):
        raise SettingsInvalid(f"The deployment file is wrong: {fault}.")
    return deployment


def database_url(settings: Settings, deployment: Deployment) -> str:
    """Where the database is: the environment's word, the deployment file's, or a file."""
    named = settings.database_url or deployment.database_url
    return named or Places(settings.folder).database_url


def heads_url(settings: Settings, deployment: Deployment) -> str | None:
    """Where the heads are, or None where they are files in the folder."""
    return settings.heads_url or deployment.heads_url


def _require_distinct(names: list[str], what: str) -> None:
    if len(set(names)) != len(names):
        raise SettingsInvalid(f"The deployment names one {what} twice.")
