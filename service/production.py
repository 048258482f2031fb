"""What production mode refuses: everything that only a trial or a development machine may have.

Does: looks at settings, deployment file and the modes of key files, and names each unsafe thing
by a code and one sentence. Refuses nothing in development mode, where the same list is shown as a
warning; in production mode nothing starts on a deployment of which the list is not empty.

What is allowed: SQLite and the write-once directory (a county's shape), and a bucket in GOVERNANCE
mode, which is stated as a level of its own. There are no default tokens that could be refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from evidence.tlog.policy import NONE
from service.data_keys import kek_path, keys_url
from service.deployment_file import Deployment, OrganSettings, database_url, heads_url
from service.key_files import timestamp_roots, witness_policy
from service.settings import GIB, Settings, SettingsInvalid

_LOOPBACK = frozenset({None, "", "localhost", "127.0.0.1", "::1"})
_SECURED = frozenset({"verify-full", "verify-ca"})
_OTHERS_BITS = 0o077
_LEAST_AUTHORITIES = 2

REFUSED = MappingProxyType(
    {
        "development_keys": "the keys were made for development",
        "registrar_here": "the registrar's key lies in the deployment's folder",
        "keys_readable": "a key file can be read by others than its owner",
        "development_authority": "a time-stamp authority is a local one",
        "authority_without_tls": "a time-stamp authority is spoken to without TLS",
        "too_few_authorities": "fewer than two time-stamp authorities are named",
        "authorities_alike": "two time-stamp authorities have one host or one root",
        "development_witness": "a witness is a local one",
        "witness_without_tls": "a witness is spoken to without TLS",
        "no_witness": "an organ has no witness",
        "witness_policy_none": "the witness policy demands nobody's cosignature",
        "store_without_tls": "the object store is spoken to without TLS",
        "store_unproven": "an object store is taken that fails its self-test",
        "database_without_tls": "a database on another machine is spoken to without verified TLS",
        "heads_on_one_server": "the heads lie on the evidence's database server",
        "webhooks_inside": "webhooks may lead inside, and over plain http",
        "keys_on_one_server": "the store of data keys lies on the evidence's database server",
        "disk_reserve_small": "the disk reserve is below 1 GiB",
    }
)
"""Every refusal: its code, and what it means."""


@dataclass(frozen=True, slots=True)
class Unsafe:
    """One thing that only development may have.

    Attributes:
        code: of `REFUSED`.
        what: names which one it is.
    """

    code: str
    what: str

    def __str__(self) -> str:
        """One sentence without its final stop."""
        said = REFUSED[self.code]
        return f"{said} ({self.what})" if self.what else said


def find_unsafe(settings: Settings, deployment: Deployment) -> list[Unsafe]:
    """Name everything that production mode refuses, most serious first.

    Raises:
        SettingsInvalid: a policy or certificate file is missing or malformed.
    """
    return [
        *_unsafe_keys(settings, deployment),
        *(one for organ in deployment.organs for one in _unsafe_parties(settings, organ)),
        *_unsafe_stores(settings, deployment),
    ]


def require_production(settings: Settings, deployment: Deployment) -> None:
    """Hold production mode to what it promises.

    Raises:
        SettingsInvalid: the mode is production and something unsafe is found; or see
            `find_unsafe`.
    """
    if settings.mode != "production":
        return
    unsafe = find_unsafe(settings, deployment)
    if unsafe:
        said = "; ".join(f"{one.code}: {one}" for one in unsafe)
        raise SettingsInvalid(f"Production mode refuses to start. {said}.")


def _unsafe_keys(settings: Settings, deployment: Deployment) -> Iterator[Unsafe]:
    if deployment.development_keys:
        yield Unsafe("development_keys", "")
    if (settings.folder / "registrar" / "registrar.pem").exists():
        yield Unsafe("registrar_here", "registrar/registrar.pem")
    for path in _secret_files(settings, deployment):
        if path.exists() and path.stat().st_mode & _OTHERS_BITS:
            yield Unsafe("keys_readable", path.name)


def _secret_files(settings: Settings, deployment: Deployment) -> Iterator[Path]:
    """Every file that holds a key or a password of the service."""
    for organ in deployment.organs:
        yield settings.folder / organ.server_key_file
        for log in organ.logs:
            yield settings.folder / log.ed25519_key_file
            yield settings.folder / log.ml_dsa_key_file
    further = (
        settings.s3_access_key_file,
        settings.s3_secret_key_file,
        kek_path(settings, deployment),
        settings.pkcs11_pin_file,
    )
    yield from (path for path in further if path)


def _unsafe_parties(settings: Settings, organ: OrganSettings) -> Iterator[Unsafe]:
    for authority in organ.authorities:
        if authority.development:
            yield Unsafe("development_authority", authority.name)
        elif not authority.url.startswith("https://"):
            yield Unsafe("authority_without_tls", authority.name)
    if len(organ.authorities) < _LEAST_AUTHORITIES:
        yield Unsafe("too_few_authorities", organ.id)
    hosts = {urlsplit(authority.url).netloc for authority in organ.authorities}
    roots = [root.certificate for root in timestamp_roots(settings, organ)]
    if len(hosts) < len(organ.authorities) or len(set(roots)) < len(roots):
        yield Unsafe("authorities_alike", organ.id)
    yield from _unsafe_witnesses(settings, organ)


def _unsafe_witnesses(settings: Settings, organ: OrganSettings) -> Iterator[Unsafe]:
    for witness in organ.witnesses:
        if witness.development:
            yield Unsafe("development_witness", witness.name)
        elif not witness.url.startswith("https://"):
            yield Unsafe("witness_without_tls", witness.name)
    policy = witness_policy(settings, organ)
    if not organ.witnesses:
        yield Unsafe("no_witness", organ.id)
    elif policy is None or policy.quorum == NONE:
        yield Unsafe("witness_policy_none", organ.id)


def _unsafe_stores(settings: Settings, deployment: Deployment) -> Iterator[Unsafe]:
    in_s3 = "s3" in (settings.objects, settings.tiles, settings.staging)
    if in_s3 and not (settings.s3_endpoint or "").startswith("https://"):
        yield Unsafe("store_without_tls", "FENGNI_S3_ENDPOINT")
    if settings.objects == "s3" and settings.objects_unproven == "state":
        yield Unsafe("store_unproven", "FENGNI_OBJECTS_UNPROVEN")
    rows, heads = database_url(settings, deployment), heads_url(settings, deployment)
    keys = keys_url(settings, deployment)
    for name, url in (("evidence", rows), ("heads", heads), ("keys", keys)):
        if url is not None and _in_the_clear(url):
            yield Unsafe("database_without_tls", name)
    if heads is not None and _server_of(heads) == _server_of(rows):
        yield Unsafe("heads_on_one_server", "")
    if settings.webhooks_private:
        yield Unsafe("webhooks_inside", "FENGNI_WEBHOOKS_PRIVATE")
    if keys is not None and _server_of(keys) == _server_of(rows):
        yield Unsafe("keys_on_one_server", "")
    if settings.disk_reserve_bytes < GIB:
        yield Unsafe("disk_reserve_small", "FENGNI_DISK_RESERVE_BYTES")


def _in_the_clear(url: str) -> bool:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" or parsed.host in _LOOPBACK:
        return False
    return parsed.query.get("sslmode") not in _SECURED


def _server_of(url: str) -> tuple[str | None, int]:
    parsed = make_url(url)
    return parsed.host, parsed.port or 5432
