"""What an operator can set: one frozen struct, read once from the environment.

Does: reads `FENGNI_…` variables. Refuses to guess: a variable that is
misspelt or malformed stops the start. What production mode refuses, `service.production` says. No
other module reads the environment.

    FENGNI_FOLDER=/srv/fengni FENGNI_MODE=production FENGNI_PORT=8000
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PREFIX = "FENGNI_"
CLIENT_CONFIG = "FENGNI_CLIENT_CONFIG"
_NOT_THE_SERVER_S = frozenset({"client_config", "shared"})
"""Variables of the command line and of the tests, which a server leaves alone."""
MIB = 1024 * 1024
GIB = 1024 * MIB

Slug = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Seconds = Annotated[int, Meta(ge=1, le=7 * 24 * 3600)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
DatabaseUrl = Annotated[str, Meta(pattern=r"^(sqlite:///.+|postgresql\+psycopg://.+/.+)$")]
ServerUrl = Annotated[str, Meta(pattern=r"^postgresql\+psycopg://.+/.+$")]
NodeName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class SettingsInvalid(Exception):
    """A variable or the deployment file is wrong; the message names which and why."""


class Secret:
    """A text that is never shown: not in a log, an error or a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Keep it."""
        self._text = text

    def __repr__(self) -> str:
        """Nothing of it."""
        return "Secret(…)"

    def reveal(self) -> str:
        """The text, for the one who needs it."""
        return self._text


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that the environment can say. Sizes in bytes, times in seconds.

    Attributes:
        folder: the deployment's folder, made by `fengni init`; holds `deployment.json`.
        database_url: where the database is, for the service's role; wins over the deployment
            file. Without either it is a SQLite file in the folder.
        heads_url: where the heads of the logs are, on another PostgreSQL server, so that several
            nodes may lead a log; wins over the deployment file. Without either they are files.
        keys_url: where the keys of texts and of sealed contents are, on another PostgreSQL server
            than the database; wins over the deployment file. Without either they are a file.
        kek_file: file of the keys that wrap those; wins over the deployment file.
        pkcs11_module: PKCS#11 library of a hardware module that wraps the keys instead of a file.
        pkcs11_token: label of the module's token.
        pkcs11_pin_file: file that holds the PIN of the token's user and nothing else.
        node: of this process, for people who ask who leads a log; else the host's name.
        mode: `development` warns of what is made for a trial; `production` does not start on it.
        host: the address that the server listens on.
        port: the port that it listens on.
        log_format: `console` for people, `json` for machines.
        disk_reserve_bytes: free space below which no content is taken (507).
        max_content_bytes: the largest content that may be announced.
        max_uploads: how many contents are received at once; beyond that 503.
        max_quarantined: how many failed transfers of one capture are kept.
        upload_idle_s: how long a sender may stay silent in the middle of a transfer.
        upload_min_bytes_per_s: a transfer slower than this, on the whole, is ended.
        request_timeout_s: how long any other request may take.
        token_cache_s: how long a token is believed without asking the database; a revocation
            takes effect after that at the latest.
        view_window_s: readings of one object by one reader within this count as one.
        export_wait_s: how long an export waits for cosignatures and time-stamps.
        export_kept_s: how long a made package is kept for fetching.
        work: where background work is done: `here`, in the process that serves as well, or
            `elsewhere`, by `fengni worker` alone. With `auto` it is here on SQLite and elsewhere
            on PostgreSQL.
        webhooks_private: whether webhooks may lead to loopback and private addresses, and over
            plain http.
        webhooks_kept_s: how long a delivery that ended stays, to be seen and sent again.
        work_kept_s: how long a workflow that ended stays for people to see.
        work_attempts: after how many attempts a piece of work is shown as failed.
        inspect_workers: how many contents are inspected at once; with 0 their inspection waits.
        objects: where originals are kept: `local`, or `s3`, a bucket with Object Lock.
        objects_unproven: what happens where the bucket fails its self-test: `refuse` to start, or
            start and `state` the level `s3-unproven` of everything that is stored.
        intake_days: for how many days a new object is locked at least; locks only grow.
        tiles: where the logs' public files lie: `local`, or `s3`, a bucket without locks that every
            node reads, and the leader of a log writes.
        staging: where uploads wait: `local`, or `s3`, a bucket without locks, so that what one node
            received another one can store; needs `objects` in `s3`.
        s3_endpoint: `https://host` or `https://host:port` of the S3 server.
        s3_bucket: the bucket; `fengni init` makes it with Object Lock where there is none.
        s3_tiles_bucket: the bucket of the public files, and of nothing else.
        s3_staging_bucket: the bucket of uploads on their way, and of nothing else.
        s3_region: as the server calls it.
        s3_access_key: of the account that puts objects; better in a file.
        s3_access_key_file: file that holds the access key and nothing else.
        s3_secret_key: of the account that puts objects; better in a file.
        s3_secret_key_file: file that holds the secret key and nothing else.
        s3_ca_file: PEM file of the authorities that may vouch for the server, else the usual ones.
        s3_lock_mode: `compliance`, which no account lifts, or `governance`, which some may.
        s3_timeout_s: how long connecting to the server, and each wait for bytes, may take.
        scrub_bytes: so many bytes at most are re-hashed in one run of `fengni scrub`.
        scrub_s: so long at most one run re-hashes.
        scrub_every_s: so often the workers scrub each organ's contents, counted from its last run,
            whoever made it; 0 for never.
        second_folder: a second object store that is a directory, from which objects are repaired.
        second_s3_endpoint: a second object store that is a bucket: its server.
        second_s3_bucket: its bucket.
        second_s3_access_key_file: file that holds the access key to it.
        second_s3_secret_key_file: file that holds the secret key to it.
    """

    folder: Path
    database_url: DatabaseUrl | None = None
    heads_url: ServerUrl | None = None
    keys_url: ServerUrl | None = None
    kek_file: Path | None = None
    pkcs11_module: Path | None = None
    pkcs11_token: str | None = None
    pkcs11_pin_file: Path | None = None
    node: NodeName | None = None
    mode: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 8000
    log_format: Literal["console", "json"] = "json"
    disk_reserve_bytes: Annotated[int, Meta(ge=0)] = 2 * GIB
    max_content_bytes: Annotated[int, Meta(ge=1, le=2**40)] = 64 * GIB
    max_uploads: Count = 64
    max_quarantined: Count = 8
    upload_idle_s: Seconds = 30
    upload_min_bytes_per_s: Annotated[int, Meta(ge=1)] = 4096
    request_timeout_s: Seconds = 30
    token_cache_s: Annotated[int, Meta(ge=0, le=60)] = 2
    view_window_s: Seconds = 15 * 60
    export_wait_s: Seconds = 60
    export_kept_s: Seconds = 7 * 24 * 3600
    work: Literal["auto", "here", "elsewhere"] = "auto"
    webhooks_private: bool = False
    webhooks_kept_s: Annotated[int, Meta(ge=1)] = 30 * 24 * 3600
    work_kept_s: Seconds = 24 * 3600
    work_attempts: Count = 8
    inspect_workers: Annotated[int, Meta(ge=0, le=64)] = 2
    objects: Literal["local", "s3"] = "local"
    objects_unproven: Literal["refuse", "state"] = "refuse"
    intake_days: Annotated[int, Meta(ge=1, le=36_500)] = 365
    tiles: Literal["local", "s3"] = "local"
    staging: Literal["local", "s3"] = "local"
    s3_endpoint: str | None = None
    s3_bucket: str | None = None
    s3_tiles_bucket: str | None = None
    s3_staging_bucket: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key: Secret | None = None
    s3_access_key_file: Path | None = None
    s3_secret_key: Secret | None = None
    s3_secret_key_file: Path | None = None
    s3_ca_file: Path | None = None
    s3_lock_mode: Literal["compliance", "governance"] = "compliance"
    s3_timeout_s: Annotated[int, Meta(ge=1, le=600)] = 30
    scrub_bytes: Annotated[int, Meta(ge=1)] = 64 * GIB
    scrub_s: Seconds = 4 * 3600
    scrub_every_s: Annotated[int, Meta(ge=0)] = 24 * 3600
    second_folder: Path | None = None
    second_s3_endpoint: str | None = None
    second_s3_bucket: str | None = None
    second_s3_access_key_file: Path | None = None
    second_s3_secret_key_file: Path | None = None


def read_environment(
    folder: Path | None = None, variables: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings from this process's environment.

    Args:
        folder: wins over `FENGNI_FOLDER`.
        variables: win over the environment's.

    Raises:
        SettingsInvalid: see `read_settings`.
    """
    given = {} if folder is None else {f"{PREFIX}FOLDER": str(folder)}
    return read_settings({**os.environ, **(variables or {}), **given})


def environment_with(given: Mapping[str, str]) -> dict[str, str]:
    """This process's environment for a child of it, with some variables set or replaced."""
    return {**os.environ, **given}


def client_config_file() -> Path | None:
    """Where the command line's own settings lie, if the environment names a file."""
    named = os.environ.get(CLIENT_CONFIG)
    return Path(named) if named else None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from variables that begin with `FENGNI_`.

    Raises:
        SettingsInvalid: a variable is unknown or malformed, or the folder is not named.
    """
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX)
    }
    for name in _NOT_THE_SERVER_S & given.keys():
        del given[name]
    unknown = sorted(given.keys() - set(Settings.__struct_fields__))
    if unknown:
        raise SettingsInvalid(f"Unknown setting: {PREFIX}{unknown[0].upper()}.")
    if "folder" not in given:
        raise SettingsInvalid(f"{PREFIX}FOLDER names no deployment; make one with `fengni init`.")
    try:
        return msgspec.convert(given, Settings, strict=False, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        raise SettingsInvalid(f"A {PREFIX} variable is malformed: {error}.") from error


def _from_text(kind: type, value: object) -> object:
    if kind in (Path, Secret) and isinstance(value, str):
        return kind(value)
    raise TypeError("a setting of a type that the environment cannot say")
