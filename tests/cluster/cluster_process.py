"""A real `fengni cluster --local` as a process, with a client that knows nothing else."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from service.setup.cluster import EVIDENCE_DB, FIRST, HEADS_DB, PROXY, STORE
from tests.e2e.demo_process import DemoProcess, Ran, fengni, is_alive

START_TIMEOUT_S = 180
END_TIMEOUT_S = 60
PATIENCE_S = 60
SERVERS = (EVIDENCE_DB, HEADS_DB, STORE)


class ClusterProcess(DemoProcess):
    """One cluster's folder, running or not."""

    def __init__(self, place: Path, *, web: int = 2, workers: int = 2) -> None:
        """Start nothing yet."""
        super().__init__(place)
        self.folder = place / "cluster"
        self.server = self.folder / FIRST
        self.web, self.workers = web, workers
        self.environment |= {"FENGNI_CLIENT_CONFIG": str(self.folder / "client.json")}

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.launch()
        deadline = time.monotonic() + START_TIMEOUT_S
        while "end it with Ctrl-C" not in self.output():
            assert self.process.poll() is None, self.output() + self.logs()
            assert time.monotonic() < deadline, self.output() + self.logs()
            time.sleep(0.05)

    def launch(self) -> None:
        """Start it over a pipe that it reads from, and wait for nothing."""
        counts = ["--web", str(self.web), "--workers", str(self.workers)]
        command = [*fengni(), "cluster", "--local", "--folder", str(self.folder), *counts]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> int:
        """Ask it to end; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(END_TIMEOUT_S)
        if self.process.stdin is not None:
            self.process.stdin.close()
        return status

    def hang_up(self) -> int:
        """Close the pipe that it reads from; returns its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(END_TIMEOUT_S)

    def kill(self) -> None:
        """Kill it like a power cut would; its children must go with it."""
        super().kill()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def logs(self) -> str:
        """The last lines of every part."""
        found = sorted((self.folder / "logs").glob("*.log"))
        return "".join(
            f"\n== {one.name}\n{one.read_text('utf-8', 'replace')[-800:]}" for one in found
        )

    @property
    def kept(self) -> dict[str, Any]:
        """What it keeps over restarts: ports and credentials."""
        return json.loads((self.folder / "cluster.json").read_text())

    def pid_of(self, name: str) -> int:
        """The process of one part, by the folder that it runs over."""
        folder = os.fsencode(self.folder / name)
        for child in self.children():
            words = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").split(b" ")
            if any(word.removeprefix(b"-config_dir=") == folder for word in words):
                return child
        raise AssertionError(f"no process runs over {name}")

    def kill_part(self, name: str) -> int:
        """Kill one part as a power cut would; returns the id that it had."""
        pid = self.pid_of(name)
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while is_alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return pid

    def wait_back(self, name: str, gone: int) -> None:
        """Wait until a part runs again as another process than the one that is gone."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if self.pid_of(name) != gone:
                    return
            except (AssertionError, FileNotFoundError):
                pass
            assert time.monotonic() < deadline, self.output() + self.logs()
            time.sleep(0.05)

    def variables(self) -> dict[str, str]:
        """The settings with which a command of the server's looks at the first node."""
        kept = self.kept
        access, secret = kept["service"]
        return {
            "FENGNI_FOLDER": str(self.server),
            "FENGNI_OBJECTS": "s3",
            "FENGNI_S3_ENDPOINT": f"http://127.0.0.1:{kept['weed_ports']['s3']}",
            "FENGNI_S3_BUCKET": "evidence",
            "FENGNI_S3_ACCESS_KEY": access,
            "FENGNI_S3_SECRET_KEY": secret,
            "FENGNI_INTAKE_DAYS": "1",
            "FENGNI_TILES": "s3",
            "FENGNI_S3_TILES_BUCKET": "evidence-tiles",
            "FENGNI_STAGING": "s3",
            "FENGNI_S3_STAGING_BUCKET": "evidence-staging",
        }

    def operate(self, *arguments: str | Path) -> Ran:
        """Run a command of the server's as the first node would."""
        done = subprocess.run(
            [*fengni(), *map(str, arguments)],
            env=self.environment | self.variables(),
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )
        return Ran(done)

    def ports(self) -> list[int]:
        """Where its parts listen, as far as it keeps that."""
        kept = self.kept
        servers = [kept["evidence_port"], kept["heads_port"], *kept["weed_ports"].values()]
        nodes = [*kept["web_ports"].values(), *kept["worker_ports"].values()]
        return [*servers, *nodes, *kept["proxy_ports"]]

    def leader(self) -> str:
        """The node that leads the log, as the first web node sees it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for port in self.kept["web_ports"].values():
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
                    [log] = answer.json()["logs"]
                except (httpx.HTTPError, ValueError, KeyError):
                    continue
                if log["leader"]:
                    return str(log["leader"]).split(" ")[0]
            assert time.monotonic() < deadline, self.output() + self.logs()
            time.sleep(0.1)

    def wait_for_one_leader(self) -> None:
        """Wait until every node and worker answers, and one of them says that it leads the log."""
        deadline = time.monotonic() + PATIENCE_S
        leading: list[bool] = []
        ports = [*self.kept["web_ports"].values(), *self.kept["worker_ports"].values()]
        while sorted(leading) != [False] * (len(ports) - 1) + [True]:
            assert time.monotonic() < deadline, f"who leads: {leading}"
            time.sleep(0.1)
            leading = []
            for port in ports:
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
                    [log] = answer.json()["logs"]
                    leading.append(bool(log["leads"]))
                except (httpx.HTTPError, ValueError, KeyError):
                    break


@contextmanager
def cluster_folder() -> Generator[Path]:
    """A folder that PostgreSQL's account may pass through, which goes at the end.

    pytest's own are closed to everybody else.
    """
    place = Path(tempfile.mkdtemp(prefix="fengni-cluster-"))
    place.chmod(0o711)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def listens(port: int) -> bool:
    """Whether anybody listens on a port of 127.0.0.1."""
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex(("127.0.0.1", port)) == 0


__all__ = ["PROXY", "ClusterProcess", "cluster_folder", "listens"]
