"""`fengni cluster --local`: the parts of a province's deployment as processes on one machine.

That is two PostgreSQL servers, SeaweedFS, two development authorities, a witness, web nodes,
workers and a TLS proxy, all on loopback, each in a folder of its own; two nodes share nothing but
servers.

Does: makes all of it once, loudly marked, and says how each part is run. Refuses to be mistaken
for production: keys, time-stamps, witness and stores lie in one hand, and production mode does not
start on them.

    FOLDER/cluster.json     ports, and the credentials of the store     FOLDER/logs/
    FOLDER/evidence-db/ heads-db/ weed/ proxy/ tsa/ tsa-2/ witness-1/
    FOLDER/web-1/ web-2/ … worker-1/ …   a node each      FOLDER/registrar/ people/ photos/ journal/
"""

import contextlib
import secrets
import shutil
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from service.context import fresh_salt, system_clock
from service.deployment_file import DEPLOYMENT_FILE, OrganSettings, read_deployment
from service.private_files import make_private_folder, write_private
from service.settings import PREFIX, read_environment
from service.setup.children import Children, Program
from service.setup.databases import Databases, SetupRefused
from service.setup.demo import (
    AUTHORITIES,
    DemoBusy,
    enrol_people,
    make_witnesses,
    with_addresses,
)
from service.setup.deployment import (
    DEVELOPMENT_MARK,
    KNOWN_KEYS_FILE,
    POLICY_FILE,
    Plan,
    create_deployment,
    write_deployment,
)
from service.setup.parties import Authority
from service.setup.postgres import OWNER, Binaries, PostgresPlace, find_binaries
from service.setup.proxy import (
    CERTIFICATE,
    KEY,
    Front,
    make_local_authority,
    nginx_configuration,
)
from service.setup.weed import PLAIN_ACTIONS, PORTS, Account, WeedPlace, find_weed
from service.transparency.tsa import create_tsa

ORGAN = "trial-organ"
LOG = "trial"
EVIDENCE_DB, HEADS_DB, STORE, PROXY = "evidence-db", "heads-db", "weed", "proxy"
WITNESSES = ("witness-1",)
FIRST = "web-1"
_BUCKET = "evidence"
_DATABASES = {EVIDENCE_DB: "fengni", HEADS_DB: "fengni_heads"}
_KEYS = "fengni_keys"
"""The database of data keys; it lies on the heads' server, apart from what they open."""
_FILE = "cluster.json"
_LOWEST_PORT, _PORTS = 15_000, 15_000
_NOWHERE = "http://127.0.0.1:1"  # until the processes say where they listen
_STORE_END_S = 2.0
"""Its filer would wait 15 s for the S3 server beside it, in vain; what it answered is synced."""

_FIXED = (DEPLOYMENT_FILE, KNOWN_KEYS_FILE, POLICY_FILE, DEVELOPMENT_MARK)
"""What every node gets a copy of, beside the keys."""


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a start must know of the starts before it."""

    evidence_port: int
    heads_port: int
    weed_ports: dict[str, int]
    admin: tuple[str, str]
    service: tuple[str, str]
    web_ports: dict[str, int]
    worker_ports: dict[str, int] = {}
    proxy_ports: tuple[int, int]
    environment: dict[str, dict[str, str]] = {}
    """Further variables of single nodes, by name, for whoever edits the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster that lies in a folder, made or not.

    Attributes:
        folder: see the module; absolute.
        binaries: of PostgreSQL.
        evidence: the server of the evidence's database.
        heads: the server of the heads and of the data keys, which must be another one.
        weed: the object store.
        admin: may make buckets; used once.
        service: what the nodes may do in the store.
        web_ports: where each web node listens.
        worker_ports: where each worker can be watched.
        proxy_ports: with TLS, and without for this machine's command line.
        environment: further variables of single nodes, by name.
    """

    folder: Path
    binaries: Binaries
    evidence: PostgresPlace
    heads: PostgresPlace
    weed: WeedPlace
    admin: Account
    service: Account
    web_ports: Mapping[str, int]
    worker_ports: Mapping[str, int]
    proxy_ports: tuple[int, int]
    environment: Mapping[str, Mapping[str, str]]

    @property
    def first(self) -> Path:
        """The folder of the node that `init` made; the others are copies of what it fixed."""
        return self.folder / FIRST

    @property
    def made(self) -> bool:
        """Whether everything was made."""
        return (self.first / DEPLOYMENT_FILE).exists()

    def variables(self, node: str) -> dict[str, str]:
        """The settings of one node."""
        own = self.environment.get(node, {})
        return {**self.store(self.service), f"{PREFIX}NODE": node, **own}

    def servers(self) -> dict[str, Program]:
        """The databases and the store, as programs that run."""
        databases = {EVIDENCE_DB: self.evidence, HEADS_DB: self.heads}
        return {
            **{
                name: Program(
                    command=place.command,
                    ready=place.answers,
                    folder=place.data,
                    end="INT",  # a fast shutdown, which also ends every connection
                    account=self.binaries.account,
                )
                for name, place in databases.items()
            },
            STORE: Program(
                command=self.weed.command,
                ready=lambda: self.weed.answers(self.admin),
                folder=self.weed.folder,
                patience_s=_STORE_END_S,
            ),
        }

    def store(self, account: Account) -> dict[str, str]:
        """The settings that name the bucket, for one account."""
        address = self.weed.address(_BUCKET, account)
        given = {
            "OBJECTS": "s3",
            "S3_ENDPOINT": address.endpoint,
            "S3_BUCKET": address.bucket,
            "S3_ACCESS_KEY": address.access_key,
            "S3_SECRET_KEY": address.secret_key,
            "INTAKE_DAYS": "1",
            "TILES": "s3",
            "S3_TILES_BUCKET": f"{address.bucket}-tiles",
            "STAGING": "s3",
            "S3_STAGING_BUCKET": f"{address.bucket}-staging",
        }
        return {PREFIX + name: value for name, value in given.items()}


def open_cluster(folder: Path, web: int, workers: int) -> Cluster:
    """Find a cluster in a folder, or choose ports and credentials for a new one.

    Args:
        folder: see the module; absolute. It holds a cluster, or nothing.
        web: how many web nodes there are to be.
        workers: how many workers.

    Raises:
        ServerMissing: PostgreSQL or SeaweedFS is not installed.
        DemoBusy: the folder holds something else.
        SetupRefused: the account that runs PostgreSQL may not enter the folder.
    """
    path = folder / _FILE
    if folder.exists() and any(folder.iterdir()) and not path.exists():
        raise DemoBusy(f"{folder} holds something that is no cluster.")
    binaries, program = find_binaries(), find_weed()
    make_private_folder(folder)
    if binaries.account is not None:
        _require_entrance(folder)
    kept = msgspec.json.decode(path.read_bytes(), type=_Kept) if path.exists() else fresh_ports()
    kept = msgspec.structs.replace(
        kept,
        web_ports=_with_more(kept.web_ports, "web", web),
        worker_ports=_with_more(kept.worker_ports, "worker", workers),
    )
    write_private(path, msgspec.json.format(msgspec.json.encode(kept)))
    binaries = binaries.reachable(folder)
    return Cluster(
        folder=folder,
        binaries=binaries,
        evidence=PostgresPlace(binaries, folder / EVIDENCE_DB, kept.evidence_port),
        heads=PostgresPlace(binaries, folder / HEADS_DB, kept.heads_port),
        weed=WeedPlace(program=program, folder=folder / STORE, ports=kept.weed_ports),
        admin=Account(name="admin", access_key=kept.admin[0], secret_key=kept.admin[1]),
        service=Account(
            name="service",
            access_key=kept.service[0],
            secret_key=kept.service[1],
            actions=PLAIN_ACTIONS,
        ),
        web_ports=_first(kept.web_ports, web),
        worker_ports=_first(kept.worker_ports, workers),
        proxy_ports=kept.proxy_ports,
        environment=kept.environment,
    )


def lay_out(cluster: Cluster) -> None:
    """Make the folders and configurations of all servers that are not there; starts nothing."""
    for name in ("people", "photos", "journal", "logs", PROXY):
        make_private_folder(cluster.folder / name)
    lacking = [one for one in (cluster.evidence, cluster.heads) if not one.data.exists()]
    with ThreadPoolExecutor() as pool:
        list(pool.map(PostgresPlace.make, lacking))
    if not (cluster.weed.folder / "s3.json").exists():
        make_private_folder(cluster.weed.folder)
        cluster.weed.make((cluster.admin, cluster.service))
    if not (cluster.folder / PROXY / KEY).exists():
        make_local_authority(cluster.folder / PROXY, system_clock())


def make_cluster(cluster: Cluster, children: Children) -> None:
    """Make databases, bucket, parties and the deployment; every server of it runs.

    Raises:
        SetupRefused, StorageError, ChildFailed, ServerMissing: it could not be made.
    """
    for place, name in ((cluster.evidence, EVIDENCE_DB), (cluster.heads, HEADS_DB)):
        place.prepare(_DATABASES[name])
    cluster.heads.prepare(_KEYS)
    roots = {name: create_tsa(cluster.folder / name) for name in AUTHORITIES}
    children.wait_ready(STORE)
    cluster.weed.demand_syncs()
    evidence, heads = _DATABASES[EVIDENCE_DB], _DATABASES[HEADS_DB]
    plan = Plan(
        folder=cluster.first,
        registrar_folder=cluster.folder / "registrar",
        audience=f"trial-{fresh_salt()[:8]}",
        organ=ORGAN,
        log_id=LOG,
        origin=f"fengni.example/trial/{fresh_salt()[:8]}",
        authorities=tuple(
            Authority(name=name, url=_NOWHERE, root=root, development=True)
            for name, root in roots.items()
        ),
        witnesses=lambda log_keys: make_witnesses(cluster.folder, WITNESSES, log_keys),
        development=True,
        databases=Databases(
            url=cluster.evidence.url(evidence),
            owner_url=cluster.evidence.url(evidence, OWNER),
            heads_url=cluster.heads.url(heads),
            heads_owner_url=cluster.heads.url(heads, OWNER),
            keys_url=cluster.heads.url(_KEYS),
            keys_owner_url=cluster.heads.url(_KEYS, OWNER),
        ),
        variables=cluster.store(cluster.admin),
    )
    create_deployment(plan, more=lambda context, desk: enrol_people(cluster.folder, context, desk))


def owner_urls(cluster: Cluster) -> tuple[str, str, str]:
    """The three databases for the role that owns their tables."""
    return (
        cluster.evidence.url(_DATABASES[EVIDENCE_DB], OWNER),
        cluster.heads.url(_DATABASES[HEADS_DB], OWNER),
        cluster.heads.url(_KEYS, OWNER),
    )


def tell_addresses(cluster: Cluster, addresses: Mapping[str, str]) -> None:
    """Write where authorities and witness listen this time into the first node's file."""
    settings = read_environment(folder=cluster.first)
    deployment = with_addresses(read_deployment(settings), dict(addresses))
    write_deployment(cluster.first, deployment)


def provide_node(cluster: Cluster, name: str) -> Path:
    """The folder of a node: a copy of what `init` fixed, and room of its own; returns it."""
    folder = cluster.folder / name
    if name == FIRST:
        return folder
    fresh = not folder.exists()
    make_private_folder(folder)
    for file in _FIXED:
        write_private(folder / file, (cluster.first / file).read_bytes())
    for key in (cluster.first / "keys").iterdir():
        make_private_folder(folder / "keys")
        write_private(folder / "keys" / key.name, key.read_bytes())
    if fresh:
        make_private_folder(folder / "exports")
    return folder


def proxy_program(cluster: Cluster, nginx: Path) -> Program:
    """The TLS proxy, as a program that runs; its configuration is written anew."""
    folder = cluster.folder / PROXY
    secured, plain = cluster.proxy_ports
    front = Front(
        listens=(f"127.0.0.1:{secured} ssl", f"127.0.0.1:{plain}"),
        nodes=[f"127.0.0.1:{port}" for port in cluster.web_ports.values()],
        certificate=str(folder / CERTIFICATE),
        key=str(folder / KEY),
        error_log="stderr",
        pid=str(folder / "nginx.pid"),
        temporary=str(folder),
    )
    write_private(folder / "nginx.conf", nginx_configuration(front).encode())
    command = ("-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr")
    return Program(
        command=(str(nginx), *command, "-g", "daemon off;"),
        ready=(folder / "nginx.pid").exists,
        folder=folder,
    )


def find_nginx() -> Path | None:
    """The program, if it is installed."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def parties_of(organ: OrganSettings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Authorities and witnesses by name: the module that each runs, and its first arguments."""
    return {
        **{one.name: ("service.transparency.tsa", ()) for one in organ.authorities},
        **{one.name: ("service.cli", ("witness", "serve", "--folder")) for one in organ.witnesses},
    }


def fresh_ports() -> _Kept:
    """Ports and credentials of a cluster that is to be made."""
    evidence, heads, secured, plain, *weed = _lasting_ports(4 + len(PORTS))
    return _Kept(
        evidence_port=evidence,
        heads_port=heads,
        weed_ports=dict(zip(PORTS, weed, strict=True)),
        admin=(secrets.token_hex(10), secrets.token_hex(20)),
        service=(secrets.token_hex(10), secrets.token_hex(20)),
        web_ports={},
        proxy_ports=(secured, plain),
    )


def _with_more(ports: Mapping[str, int], kind: str, count: int) -> dict[str, int]:
    """Ports for so many processes of a kind; those that have one keep it."""
    names = [f"{kind}-{number}" for number in range(1, count + 1)]
    lacking = [name for name in names if name not in ports]
    return {**ports, **dict(zip(lacking, _lasting_ports(len(lacking)), strict=True))}


def _first(ports: Mapping[str, int], count: int) -> dict[str, int]:
    """The ports of as many as are to run; more may be kept of an earlier start."""
    return {name: port for name, port in ports.items() if int(name.split("-")[1]) <= count}


def _lasting_ports(count: int) -> list[int]:
    """Free ports of 127.0.0.1 below those that connections get, so that they are free later too."""
    with ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            port = _LOWEST_PORT + secrets.randbelow(_PORTS)
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
        return found


def _require_entrance(folder: Path) -> None:
    """Let `nobody`, who runs PostgreSQL for root, pass through; names are not listed to him.

    Raises:
        SetupRefused: a folder above is closed to him, and not ours to open.
    """
    folder.chmod(0o711)
    for above in folder.parents:
        if not above.stat().st_mode & 0o001:
            raise SetupRefused(
                f"PostgreSQL runs as `nobody` where you are root, and {above} is closed to him:"
                " name another --folder."
            )
