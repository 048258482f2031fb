"""`fengni demo`: a whole deployment on one machine, with all that lies elsewhere in earnest.

That is two time-stamp authorities, two witnesses, a registrar, a device, an officer, a reviewer.

Does: makes all of it once, loudly marked; at each start runs authorities, witnesses and server as
processes of their own and hands in rendered photos through the front door. Refuses to be mistaken
for more: the server does not start on it in production mode, and the authorities say in every
token that they are none.

    FOLDER/server/      the deployment               FOLDER/registrar/   its registrar
    FOLDER/tsa/ FOLDER/tsa-2/                        FOLDER/witness-1/ FOLDER/witness-2/
    FOLDER/people/      keys and tokens              FOLDER/photos/      what was handed in
    FOLDER/journal/     the device's receipts        FOLDER/logs/        what the processes say
"""

import fcntl
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from evidence.keys import P256Signer
from evidence.kinds.members import Role
from evidence.tlog.note import VerifierKey, parse_vkey
from service.access.tokens import issue_token
from service.client.config import ClientConfig, write_config
from service.client.device import Claim
from service.context import Context, fresh_salt, system_clock
from service.demo_photos import render_photos
from service.deployment_file import Deployment, Places, read_deployment
from service.law.permissions import Scope
from service.private_files import create_private, make_private_folder, write_private
from service.settings import read_environment
from service.setup.children import Children
from service.setup.deployment import (
    KNOWN_KEYS_FILE,
    Plan,
    create_deployment,
    submit_offline,
    write_deployment,
)
from service.setup.parties import Authority, Witness
from service.setup.registrar import Desk, request_key
from service.transparency.tsa import create_tsa
from service.transparency.witness import create_witness
from storage.db.engine import Database, migrate

ORGAN = "demo-organ"
LOG = "demo"
WITNESSES = ("witness-1", "witness-2")
AUTHORITIES = ("tsa", "tsa-2")
SERVER = "server"
DEVICE = "device-demo"
OFFICER = "officer-003"
TASK = "demo-inspection"
PEOPLE = {DEVICE: Role.DEVICE, OFFICER: Role.OFFICER, "reviewer-002": Role.REVIEWER}
_SCOPES = {DEVICE: (Scope.CAPTURE, Scope.READ, Scope.VIEW, Scope.EXPORT)}
_NOWHERE = "http://127.0.0.1:1"  # until the processes say where they listen
_TOKEN_LIFETIME = timedelta(days=90)
_TOKEN_RENEWED = timedelta(days=7)
_FIRST_PHOTO_AGO = timedelta(minutes=40)  # the last of them is taken half an hour later


class DemoBusy(Exception):
    """Another demo runs in this folder, or the folder is something else."""


class _Photo(msgspec.Struct, frozen=True):
    """What the demo's device claims of one rendered photo."""

    name: str
    captured_at: datetime
    utc_offset_min: int
    place: dict[str, int | str]


class _Token(msgspec.Struct, frozen=True):
    secret: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A demo that lies in a folder.

    Attributes:
        folder: see the module.
        port: where its server listens, on 127.0.0.1.
    """

    folder: Path
    port: int

    @property
    def server(self) -> Path:
        """The deployment's folder."""
        return self.folder / SERVER

    @property
    def photos(self) -> Path:
        """Where the rendered photos lie."""
        return self.folder / "photos"

    @property
    def address(self) -> str:
        """Where its server answers."""
        return f"http://127.0.0.1:{self.port}"


def make_demo(demo: Demo) -> None:
    """Make everything, once; a folder that is there already is left as it is.

    Raises:
        DemoBusy: the folder holds something else.
        SetupRefused, StorageError: it could not be made.
    """
    if demo.server.is_dir():
        migrate(Places(demo.server).database_url)
        return
    if demo.folder.exists() and any(demo.folder.iterdir()):
        raise DemoBusy(f"{demo.folder} holds something that is no demo.")
    folder = demo.folder.resolve()
    making = folder.parent / f".{folder.name}.making"
    shutil.rmtree(making, ignore_errors=True)
    make_private_folder(making)
    for name in ("people", "photos", "journal", "logs"):
        make_private_folder(making / name)
    roots = {name: create_tsa(making / name) for name in AUTHORITIES}
    plan = Plan(
        folder=making / SERVER,
        registrar_folder=making / "registrar",
        audience=f"demo-{fresh_salt()[:8]}",
        organ=ORGAN,
        log_id=LOG,
        origin=f"fengni.example/demo/{fresh_salt()[:8]}",
        authorities=tuple(
            Authority(name=name, url=_NOWHERE, root=root, development=True)
            for name, root in roots.items()
        ),
        witnesses=lambda log_keys: make_witnesses(making, WITNESSES, log_keys),
        development=True,
    )
    create_deployment(plan, more=lambda context, desk: enrol_people(making, context, desk))
    if folder.exists():
        folder.rmdir()
    making.rename(folder)


def start_demo(demo: Demo, children: Children) -> tuple[str, ...]:
    """Start authorities, witnesses and server; return when the server answers.

    Returns:
        The names of authorities and witnesses.

    Raises:
        ChildFailed: one of them did not start.
    """
    settings = read_environment(folder=demo.server)
    deployment = read_deployment(settings)
    parties = parties_of(deployment)
    for name, module in parties.items():
        children.start(name, f"service.transparency.{module}", [demo.folder / name])
    addresses = {name: children.address(name) for name in parties}
    write_deployment(demo.server, with_addresses(deployment, addresses))
    arguments = ["serve", demo.server, "--host", "127.0.0.1"]
    children.start(SERVER, "service.cli", arguments, port=demo.port)
    children.address(SERVER)
    return tuple(parties)


def parties_of(deployment: Deployment) -> dict[str, str]:
    """Whom a demo was made with, by name: `tsa` or `witness`."""
    found: dict[str, str] = {}
    for organ in deployment.organs:
        found |= {one.name: "tsa" for one in organ.authorities}
        found |= {one.name: "witness" for one in organ.witnesses}
    return found


def write_client_config(demo: Demo, path: Path, token: str) -> ClientConfig:
    """Tell the command line where the demo is, so that it needs no options."""
    config = client_config(demo.folder.resolve(), demo.server.name, demo.address, token)
    config = msgspec.structs.replace(config, demo_folder=str(demo.folder.resolve()))
    write_config(path, config)
    return config


def client_config(folder: Path, server: str, address: str, token: str) -> ClientConfig:
    """What the device of a demo or a trial must know.

    Args:
        folder: with `people/` and `journal/`, absolute.
        server: the deployment's folder in it.
        address: where requests go.
        token: of the device.
    """
    deployment = read_deployment(read_environment(folder=folder / server))
    [organ] = deployment.organs
    return ClientConfig(
        server=address,
        token=token,
        audience=deployment.audience,
        organ=organ.id,
        log=organ.log.id,
        origin=organ.log.origin,
        device_key_file=str(folder / "people" / f"{DEVICE}.pem"),
        known_keys_file=str(folder / server / KNOWN_KEYS_FILE),
        journal_folder=str(folder / "journal"),
    )


def provide_token(demo: Demo, holder: str) -> str:
    """The holder's bearer token; a new one where there is none or it ends soon."""
    return token_of(demo.folder / "people", Places(demo.server).database_url, ORGAN, holder)


def token_of(people: Path, database_url: str, organ: str, holder: str) -> str:
    """The holder's bearer token from a folder; a new one where there is none or it ends soon."""
    path = people / f"{holder}.token.json"
    at = system_clock()
    if path.exists():
        token = msgspec.json.decode(path.read_bytes(), type=_Token)
        if at < token.expires_at - _TOKEN_RENEWED:
            return token.secret
    db = Database(database_url)
    try:
        with db.write() as connection:
            issued = issue_token(
                connection,
                organ=organ,
                holder=holder,
                scopes=_SCOPES.get(holder, (Scope.READ, Scope.VIEW, Scope.EXPORT)),
                lifetime_s=int(_TOKEN_LIFETIME.total_seconds()),
                at=at,
            )
    finally:
        db.close()
    token = _Token(secret=issued.secret, expires_at=issued.expires_at)
    write_private(path, msgspec.json.encode(token))
    return issued.secret


def provide_photos(photos_folder: Path) -> dict[Path, Claim]:
    """The rendered photos with what the device claims of each; rendered at the first call."""
    index = photos_folder / "claims.json"
    if not index.exists():
        photos: list[_Photo] = []
        for photo in render_photos(system_clock() - _FIRST_PHOTO_AGO):
            write_private(photos_folder / photo.name, photo.data)
            place: dict[str, int | str] = {
                "lat_e7": photo.lat_e7,
                "lon_e7": photo.lon_e7,
                "height_mm": photo.height_mm,
                "accuracy_mm": photo.accuracy_mm,
                "source": "gnss",
            }
            photos.append(
                _Photo(
                    name=photo.name,
                    captured_at=photo.captured_at,
                    utc_offset_min=photo.utc_offset_min,
                    place=place,
                )
            )
        write_private(index, msgspec.json.encode(photos))
    return {
        photos_folder / photo.name: Claim(
            mode="attended",
            task=TASK,
            officer=OFFICER,
            captured_at=photo.captured_at,
            utc_offset_min=photo.utc_offset_min,
            place=photo.place,
        )
        for photo in msgspec.json.decode(index.read_bytes(), type=list[_Photo])
    }


@contextmanager
def hold_demo(folder: Path) -> Generator[None]:
    """Hold a demo's folder, so that two demos cannot share it.

    Raises:
        DemoBusy: another process holds it.
    """
    with (folder / "demo.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoBusy(f"Another demo runs in {folder}.") from error
        yield


def make_witnesses(
    folder: Path, names: Sequence[str], log_keys: tuple[VerifierKey, ...]
) -> tuple[Witness, ...]:
    """Make witnesses with folders of their own; where they listen, their start will show."""
    log_vkeys = [key.encode() for key in log_keys]
    return tuple(
        Witness(
            name=name,
            url=_NOWHERE,
            keys=tuple(
                parse_vkey(vkey)
                for vkey in create_witness(folder / name, f"demo.example/{name}", log_vkeys)
            ),
            development=True,
        )
        for name in names
    )


def enrol_people(folder: Path, context: Context, desk: Desk) -> None:
    """Make the keys of a device, an officer and a reviewer, and have them enrolled."""
    for holder, role in PEOPLE.items():
        signer = P256Signer.generate()
        create_private(folder / "people" / f"{holder}.pem", signer.to_pem())
        request = request_key(
            signer,
            audience=desk.audience,
            organ=desk.organ,
            role=role,
            holder=holder,
            at=context.clock(),
            salt=fresh_salt(),
        )
        desk.enrol(request, lambda signed: submit_offline(context, desk.organ, signed))


def with_addresses(deployment: Deployment, addresses: dict[str, str]) -> Deployment:
    """The deployment with the addresses at which the processes listen this time."""
    return msgspec.structs.replace(
        deployment,
        organs=tuple(
            msgspec.structs.replace(
                organ,
                authorities=tuple(
                    msgspec.structs.replace(one, url=addresses[one.name])
                    for one in organ.authorities
                ),
                witnesses=tuple(
                    msgspec.structs.replace(one, url=addresses[one.name]) for one in organ.witnesses
                ),
            )
            for organ in deployment.organs
        ),
    )
