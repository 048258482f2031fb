"""4 MiB content over 16 connections: received, hashed, fsynced, sealed and logged.

Run: PYTHONPATH=. .venv/bin/python tests/bench/bench_content.py
Peers in the same run: nginx DAV PUT (neither hashes nor fsyncs) and npm @tus/server with its
file store (creation-with-upload). The disk alone is no peer but the limit: the same bytes,
written, synced and read back by as many threads, without a network, a hash or a log. Our time
ends when the last `stored` statement is in the log; that is read from the database's file, so
that asking costs the server nothing. Each round begins when the server has no more to do and
nothing waits for the disk. The client is the same for all servers and runs on the same cores.
"""

import os
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.bench.served import Served, print_machine, served
from tests.service.deployment_maker import bearer, wire
from tests.service.server_process import free_port
from tests.tools import ROOT, require_path, require_tool

MIB = 1 << 20
EACH = 4 * MIB
COUNT = 96
CONNECTIONS = 16
ROUNDS = 3
BODY = os.urandom(EACH - 8)
NGINX = """
worker_processes 2; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 64m; client_body_temp_path {folder}/tmp;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; root {folder}/www; location / {{ dav_methods PUT; }} }}
}}
"""
_STORED = "SELECT count(*) FROM records WHERE kind = 'stored'"
_LEFT = "SELECT count(*) FROM outbox WHERE state IN ('waiting', 'handed', 'leased')"
Send = Callable[[HTTPConnection, int, bytes], int]


def content(number: int) -> bytes:
    """The bytes of one upload; all differ."""
    return number.to_bytes(8) + BODY


def upload_all(url: str, numbers: range, send: Send) -> None:
    """Send every content over 16 connections that are kept open."""
    parts = urlsplit(url)

    def work(start: int) -> None:
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        for number in numbers[start::CONNECTIONS]:
            status = send(connection, number, content(number))
            if status not in (200, 201, 204):
                raise RuntimeError(f"status {status}")
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(work, range(CONNECTIONS)))


def put(headers: Callable[[int], dict[str, str]], path: Callable[[int], str]) -> Send:
    """A PUT of the whole body."""

    def send(connection: HTTPConnection, number: int, body: bytes) -> int:
        connection.request("PUT", path(number), body, headers(number))
        answer = connection.getresponse()
        answer.read()
        return answer.status

    return send


def post_tus(connection: HTTPConnection, _number: int, body: bytes) -> int:
    """A tus creation with the whole upload in it."""
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(body)),
        "Content-Type": "application/offset+octet-stream",
    }
    connection.request("POST", "/files", body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def ours(server: Served, numbers: range) -> tuple[float, float]:
    """MB/s until everything is sealed and logged, and the growth of resident memory in MB."""
    party = server.made.parties[server.organ]
    captures = {
        number: party.capture(content(number), media_type="application/octet-stream")
        for number in numbers
    }
    headers = bearer(server.token)
    with httpx.Client(headers=headers, timeout=60) as client:
        signed = list(captures.values())
        for start in range(0, len(signed), 100):
            body = wire(*signed[start : start + 100])
            client.post(f"{server.url}/v1/captures", json=body).raise_for_status()
        os.sync()
        before = server.resident_mb()
        begun = time.perf_counter()
        upload_all(
            server.url,
            numbers,
            put(lambda _: headers, lambda number: f"/v1/captures/{captures[number].id}/content"),
        )
        grown = server.resident_mb() - before
        while count(server, _STORED) < numbers.stop:
            time.sleep(0.005)
        seconds = time.perf_counter() - begun
        one = client.get(f"{server.url}/v1/captures/{signed[-1].id}/statements").json()
        if "stored" not in {statement["kind"] for statement in one["items"]}:
            raise RuntimeError("the last content was not sealed")
    while count(server, _LEFT):
        time.sleep(0.1)
    return len(numbers) * EACH / 1e6 / seconds, grown


def count(server: Served, query: str) -> int:
    """What the server's database answers; the file is read, the server is not asked."""
    database = f"file:{server.made.settings.folder}/db/fengni.db?mode=ro"
    with closing(sqlite3.connect(database, uri=True)) as connection:
        return int(connection.execute(query).fetchone()[0])


def peer(command: list[str], url: str, numbers: range, send: Send) -> float:
    """MB/s of another server, started for this round and stopped by its own pid."""
    os.sync()
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                httpx.get(url)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        begun = time.perf_counter()
        upload_all(url, numbers, send)
        return len(numbers) * EACH / 1e6 / (time.perf_counter() - begun)
    finally:
        os.killpg(child.pid, signal.SIGTERM)  # node from a package is a wrapper with a child
        child.wait(15)


def nginx(folder: Path, numbers: range) -> float:
    """MB/s of nginx DAV PUT with two workers."""
    port = free_port()
    for name in ("www", "tmp"):
        (folder / name).mkdir(mode=0o777, exist_ok=True)
        (folder / name).chmod(0o777)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port))
    user = ["-g", "user root;"] if os.getuid() == 0 else []
    return peer(
        [str(require_tool("nginx")), "-c", str(config), *user],
        f"http://127.0.0.1:{port}",
        numbers,
        put(lambda _: {}, lambda number: f"/{number}.bin"),
    )


def tus(folder: Path, numbers: range) -> float:
    """MB/s of @tus/server with its file store."""
    port = free_port()
    modules = require_path(ROOT / "tests/bench/node/node_modules/@tus/server", "@tus/server")
    script = modules.parents[2] / "tus.js"
    folder.mkdir(exist_ok=True)
    return peer(
        [str(require_tool("node")), str(script), str(folder), str(port)],
        f"http://127.0.0.1:{port}",
        numbers,
        post_tus,
    )


def disk(folder: Path, numbers: range) -> float:
    """MB/s of nothing but a file that is written, synced and read back from the disk."""
    folder.mkdir(exist_ok=True)
    bodies = [content(number) for number in numbers[:CONNECTIONS]]

    def keep(number: int) -> None:
        fd = os.open(folder / f"{number}.bin", os.O_RDWR | os.O_CREAT, 0o600)
        os.write(fd, bodies[number % CONNECTIONS])
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for start in range(0, EACH, MIB):
            os.pread(fd, MIB, start)
        os.close(fd)

    os.sync()
    begun = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(keep, numbers))
    return len(numbers) * EACH / 1e6 / (time.perf_counter() - begun)


def main() -> None:
    """Print machine, versions, command and ratios."""
    print_machine()
    print(f"command: bench_content.py; {COUNT} x 4 MiB, {CONNECTIONS} connections, {ROUNDS} rounds")
    rates: dict[str, list[float]] = {"ours": [], "nginx": [], "tus": [], "disk": []}
    with tempfile.TemporaryDirectory() as name, served(Path(name) / "ours") as server:
        for round_ in range(ROUNDS):
            numbers = range(round_ * COUNT, (round_ + 1) * COUNT)
            rate, grown = ours(server, numbers)
            rates["ours"].append(rate)
            rates["nginx"].append(nginx(Path(name), numbers))
            rates["tus"].append(tus(Path(name) / "tus", numbers))
            rates["disk"].append(disk(Path(name) / "disk", numbers))
            shown = ", ".join(f"{who} {values[-1]:.0f} MB/s" for who, values in rates.items())
            print(f"{shown}; memory grew {grown / CONNECTIONS:.1f} MB an upload (8 wanted)")
    for other, wanted in (("nginx", 0.6), ("tus", 1.5), ("disk", None)):
        pairs = zip(rates["ours"], rates[other], strict=True)
        ratio = statistics.median(mine / theirs for mine, theirs in pairs)
        print(f"ratio to {other} {ratio:.2f}" + (f" (at least {wanted} wanted)" if wanted else ""))


if __name__ == "__main__":
    main()
