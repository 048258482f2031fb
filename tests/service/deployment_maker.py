"""A whole deployment of two organs in a folder, with real keys, stores and logs, for tests."""

import base64
import hashlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from evidence.canonical import JSONValue
from evidence.keys import P256Signer
from evidence.statement import (
    About,
    SignedStatement,
    make_statement,
    sign_statement,
    to_wire,
)
from service.access.tokens import issue_token
from service.context import fresh_salt, log_stores, open_context, system_clock
from service.data_keys import make_keys, open_keys
from service.deployment_file import (
    AuthoritySettings,
    Deployment,
    LogSettings,
    OrganSettings,
    Places,
    WitnessSettings,
)
from service.key_files import log_signer
from service.law.permissions import Scope
from service.objects import make_objects
from service.settings import Settings
from service.stores import make_staging, make_tiles
from storage.db.engine import Database, migrate
from storage.log import create_log

AUDIENCE = "test"
PHOTO = b"\xff\xd8\xff\xe0 not much of a photo \xff\xd9"
ORGANS = ("county-a", "county-b")


@dataclass(kw_only=True)
class Party:
    """Everybody of one organ who signs, but the server."""

    organ: str
    registrar: P256Signer = field(default_factory=P256Signer.generate)
    device: P256Signer = field(default_factory=P256Signer.generate)
    sequence: int = 0
    previous: str | None = None

    def sign(
        self,
        kind: str,
        body: Mapping[str, JSONValue],
        *,
        signer: P256Signer | None = None,
        about: About | None = None,
        previous: str | None = None,
        audience: str = AUDIENCE,
        organ: str | None = None,
    ) -> SignedStatement:
        """Make and sign a statement, by default as the device."""
        signer = signer or self.device
        raw = make_statement(
            kind,
            audience=audience,
            organ=organ or self.organ,
            signer=signer.key_id,
            salt=fresh_salt(),
            made_at=datetime.now(UTC),
            body=body,
            about=about,
            previous=previous,
        )
        return sign_statement(raw, signer)

    def enrol(self, signer: P256Signer, role: str, holder: str) -> SignedStatement:
        """The registrar's next statement: this key is enrolled."""
        about_key: dict[str, JSONValue] = {
            "key_id": signer.key_id,
            "role": role,
            "holder": holder,
            "public_key": base64.b64encode(signer.public_key).decode(),
        }
        request = self.sign("key", {"action": "request", **about_key}, signer=signer)
        return self._next(
            {
                "action": "enrol",
                "epoch": 1,
                **about_key,
                "possession": {
                    "statement": base64.b64encode(request.raw).decode(),
                    "signature": base64.b64encode(request.signature).decode(),
                },
            }
        )

    def revoke(self, signer: P256Signer, role: str, holder: str) -> SignedStatement:
        """The registrar's next statement: this key is revoked."""
        return self._next(
            {
                "action": "revoke",
                "key_id": signer.key_id,
                "role": role,
                "holder": holder,
                "epoch": 1,
                "reason": "lost",
            }
        )

    def capture(
        self, content: bytes = PHOTO, *, size_bytes: int | None = None, **options: object
    ) -> SignedStatement:
        """The device's statement that it captured these bytes."""
        body: dict[str, JSONValue] = {
            "content": {
                "sha256": hashlib.sha256(content).hexdigest(),
                "size_bytes": len(content) if size_bytes is None else size_bytes,
                "media_type": str(options.pop("media_type", "image/jpeg")),
            },
            "mode": "attended",
            "captured_at": "2026-11-23T01:04:05.678Z",
        }
        return self.sign("capture", body, **options)  # type: ignore[arg-type]

    def _next(self, body: Mapping[str, JSONValue]) -> SignedStatement:
        self.sequence += 1
        signed = self.sign(
            "key",
            {**body, "sequence": self.sequence},
            signer=self.registrar,
            previous=self.previous,
        )
        self.previous = signed.id
        return signed


@dataclass(kw_only=True)
class Made:
    """A deployment on disk with everybody's keys and tokens."""

    settings: Settings
    deployment: Deployment
    parties: dict[str, Party]
    tokens: dict[str, str]


def make_deployment(
    folder: Path,
    *,
    authorities: tuple[AuthoritySettings, ...] = (),
    witnesses: tuple[WitnessSettings, ...] = (),
    policy_file: str | None = None,
    public_tiles: bool = True,
    inspect_workers: int = 0,
    database_url: str | None = None,
    **settings: object,
) -> Made:
    """Make keys, stores, logs, enrolments and one token with every scope for each organ."""
    parties = {organ: Party(organ=organ) for organ in ORGANS}
    for name in ("keys", "db", "text-keys", "heads", "tiles", "exports"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    deployment = Deployment(
        audience=AUDIENCE,
        organs=tuple(
            OrganSettings(
                id=organ,
                log=_log_settings(folder, organ),
                server_key_file=_write(folder, f"keys/{organ}.pem", P256Signer.generate().to_pem()),
                registrars=(base64.b64encode(party.registrar.public_key).decode(),),
                authorities=authorities,
                witnesses=witnesses,
                witness_policy_file=policy_file,
                public_tiles=public_tiles,
            )
            for organ, party in parties.items()
        ),
        database_url=database_url,
        development_keys=True,
    )
    (folder / "deployment.json").write_bytes(msgspec.json.encode(deployment))
    if database_url is not None:
        settings.setdefault("work", "here")
    made = Settings(
        folder=folder,
        inspect_workers=inspect_workers,
        disk_reserve_bytes=int(str(settings.pop("disk_reserve_bytes", 0))),
        **settings,  # type: ignore[arg-type]
    )
    _make_stores(made, deployment)
    return Made(
        settings=made, deployment=deployment, parties=parties, tokens=_populate(made, parties)
    )


def wire(*signed: SignedStatement) -> dict[str, object]:
    """The body of an announcement."""
    return {"statements": [to_wire(one) for one in signed]}


def bearer(token: str) -> dict[str, str]:
    """The header of a request."""
    return {"Authorization": f"Bearer {token}"}


def _make_stores(settings: Settings, deployment: Deployment) -> None:
    places = Places(settings.folder)
    url = deployment.database_url or places.database_url
    if deployment.database_url is None:
        migrate(url)
    make_objects(settings, system_clock, "test")
    make_staging(settings, system_clock)
    if settings.keys_url is None:
        make_keys(settings, deployment)
    with closing(Database(url)) as db, open_keys(settings, deployment, db) as keys:
        for organ in deployment.organs:
            make_tiles(settings, organ.log.id)
            create_log(
                log_stores(settings, organ.log, db, keys, None),
                organ=organ.id,
                signer=log_signer(settings, organ.log),
                clock=system_clock,
            )


def _populate(settings: Settings, parties: Mapping[str, Party]) -> dict[str, str]:
    context = open_context(settings)
    tokens: dict[str, str] = {}
    try:
        for organ, party in parties.items():
            admission = context.organs[organ].admission
            enrolled = [
                party.enrol(admission.signer, "server", "server"),  # type: ignore[arg-type]
                party.enrol(party.device, "device", "device-017"),
            ]
            outcomes = admission.submit_signed(enrolled).result()
            assert [one for one in outcomes if isinstance(one, Exception)] == []
            with context.db.write() as connection:
                tokens[organ] = issue_token(
                    connection,
                    organ=organ,
                    holder=f"officer-{organ}",
                    scopes=Scope,
                    lifetime_s=3600,
                    at=context.clock(),
                ).secret
    finally:
        context.close()
    return tokens


def _log_settings(folder: Path, organ: str) -> LogSettings:
    log_id = f"{organ}-2026"
    return LogSettings(
        id=log_id,
        origin=f"fengni.example/{log_id}",
        ed25519_key_file=_write(
            folder, f"keys/{log_id}-ed25519.pem", _pem(Ed25519PrivateKey.generate())
        ),
        ml_dsa_key_file=_write(
            folder, f"keys/{log_id}-ml-dsa.pem", _pem(MLDSA44PrivateKey.generate())
        ),
    )


def _pem(key: Ed25519PrivateKey | MLDSA44PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return name
