"""A second real S3 server for the tests: Ceph's RADOS gateway over one monitor and one disk.

Does: makes and starts a one-node cluster on loopback in a folder, from Debian's packages, without
root, devices or secrets; stops what it started by its own process ids. Refuses every address but
127.0.0.1. The tests that need it are marked `ceph`.
"""

import contextlib
import subprocess
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import urllib3

from service.setup.weed import REGION, free_ports
from storage.objects.bucket import BucketAddress
from tests.stores.weed import ACCESS_KEY, SECRET_KEY
from tests.tools import require_tool

_START_S = 90.0
_COMMAND_S = 60
# `auth none` has no keys, so every messenger mode must be crc: the gateway asks for a secure one
# and then waits for ever.
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms client mode = crc
ms cluster mode = crc
ms service mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/log/$name.log
log to stderr = false
err to stderr = false
crash dir = {folder}/log
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
osd crush chooseleaf type = 0
[mon]
paxos propose interval = 0.05
paxos min wait = 0.01
mon election timeout = 1
mon data = {folder}/mon
mon cluster log file = {folder}/log/cluster.log
mon data avail crit = 1
mon data avail warn = 2
mon initial members = a
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd memory target = 939524096
osd class load list = *
osd class default list = *
[client.rgw.a]
rgw data = {folder}/run
rgw frontends = beast endpoint=127.0.0.1:{s3}
rgw thread pool size = 32
rgw enable usage log = false
rgw dns name = localhost
"""


class Ceph:
    """One cluster in one folder, its objects in memory."""

    def __init__(self, folder: Path) -> None:
        """Write its configuration; nothing is started yet."""
        for program in ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool"):
            require_tool(program)
        self.port, self._mon_port = free_ports(2)
        self._folder = folder
        self._fsid = str(uuid.uuid4())
        self._processes: list[subprocess.Popen[bytes]] = []
        for name in ("mon", "osd", "log", "run"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "keyring").touch()
        (folder / "ceph.conf").write_text(
            _CONFIGURATION.format(folder=folder, fsid=self._fsid, mon=self._mon_port, s3=self.port)
        )

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
        """Make and start the cluster, and wait until it takes requests."""
        monmap = str(self._folder / "monmap")
        where = f"[v2:127.0.0.1:{self._mon_port}]"
        self._run(
            "monmaptool",
            "--create",
            "--clobber",
            "--fsid",
            self._fsid,
            "--addv",
            "a",
            where,
            monmap,
        )
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._launch("ceph-mon", "-i", "a", "-f")
        osd = str(uuid.uuid4())
        self._run("ceph", "--connect-timeout", "30", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._launch("ceph-osd", "-i", "0", "-f")
        self._launch("radosgw", "-n", "client.rgw.a", "-f")
        self._run(
            "radosgw-admin",
            "-n",
            "client.rgw.a",
            "user",
            "create",
            "--uid=evidence",
            "--display-name=evidence",
            f"--access-key={ACCESS_KEY}",
            f"--secret-key={SECRET_KEY}",
        )
        self._wait()

    def stop(self) -> None:
        """End what was started, the last first: the objects were in memory only."""
        for process in reversed(self._processes):
            process.kill()
            process.wait(30)

    def _environment(self) -> dict[str, str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {
            "CEPH_CONF": str(self._folder / "ceph.conf"),
            "PATH": path,
            "HOME": str(self._folder),
        }

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(require_tool(program)), *arguments],
            cwd=self._folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr.decode()[-2000:]}")

    def _launch(self, program: str, *arguments: str) -> None:
        with (self._folder / "log" / f"{program}.out").open("ab") as out:
            self._processes.append(
                subprocess.Popen(
                    [str(require_tool(program)), *arguments],
                    cwd=self._folder,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        pool = urllib3.PoolManager(timeout=1.0, retries=False)
        try:
            while time.monotonic() < deadline:
                if any(process.poll() is not None for process in self._processes):
                    raise RuntimeError("a daemon of Ceph has ended")
                with contextlib.suppress(urllib3.exceptions.HTTPError):
                    pool.request("GET", f"http://127.0.0.1:{self.port}/")
                    return
                time.sleep(0.1)
        finally:
            pool.clear()
        raise TimeoutError("Ceph does not answer")


@contextmanager
def running_ceph(folder: Path) -> Generator[Ceph]:
    """A cluster for the length of the block."""
    ceph = Ceph(folder)
    try:
        ceph.start()
        yield ceph
    finally:
        ceph.stop()
