"""The backup guide, followed to the letter; and what happens when an older copy is put back."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from evidence.keys import P256Signer
from evidence.known_keys import write_known_keys
from service.app import create_app
from service.cli import NO, OK, USAGE, run
from service.truth.backup import copy_deployment
from storage.errors import LogRolledBack
from tests.postgres import OWNER, PostgresServer
from tests.service.attested_maker import Attested, make_attested
from tests.service.deployment_maker import Made, bearer, make_deployment, wire
from tests.service.server_process import ServerProcess
from tests.service.test_captures import announce, get, seal
from tests.service.test_exports import known_keys
from tests.service.truth_maker import differences
from tests.tools import ROOT

pytestmark = pytest.mark.slow
GUIDE = ROOT / "docs" / "how-to" / "back-up-and-restore.md"
LOG = "county-a-2026"


def commands(name: str) -> str:
    """The commands of the guide under one of its marks."""
    text = GUIDE.read_text("utf-8")
    found = re.search(rf"<!-- commands: {name} -->\n\n((?:    .*\n)+)", text)
    assert found is not None
    return "\n".join(line[4:] for line in found[1].splitlines())


def follow(name: str, place: Path) -> None:
    """Do what the guide says, with its folders below a place of ours."""
    script = commands(name).replace("fengni serve", "true")
    for folder in ("srv/fengni", "backup", "safe"):
        script = re.sub(rf"(?<![\w])/{folder}\b", str(place / folder), script)
    fengni = f'fengni() {{ {sys.executable} -m service.cli "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-euc", fengni + script],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FENGNI_DISK_RESERVE_BYTES": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_the_guide_brings_a_machine_back(tmp_path: Path) -> None:
    """Backed up beside a running server, destroyed, put back; each receipt is repeated."""
    for folder in ("srv", "backup", "safe"):
        (tmp_path / folder).mkdir()
    made = make_deployment(tmp_path / "srv" / "fengni")
    signed = [made.parties["county-a"].capture(bytes([n]) * 1000) for n in range(3)]
    headers = bearer(made.tokens["county-a"])
    with ServerProcess(made.settings.folder) as server, httpx.Client(headers=headers) as http:
        server.start()

        def announced(number: int) -> bytes:
            answer = http.post(f"{server.url}/v1/captures", json=wire(signed[number]))
            return answer.content

        answers = [announced(number) for number in range(3)]
        stored = f"{server.url}/v1/captures/{signed[0].id}"
        assert http.put(f"{stored}/content", content=bytes([0]) * 1000).status_code == 201
        deadline = time.monotonic() + 30
        while http.get(stored).json()["content"]["state"] != "stored":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        follow("back up", tmp_path)
        follow("keep keys", tmp_path)
        server.kill()
        shutil.rmtree(made.settings.folder)
        follow("restore", tmp_path)
        assert differences(made.settings) == []
        server.start()
        assert [announced(number) for number in range(3)] == answers
        assert http.get(f"{stored}/content").content == bytes([0]) * 1000
        server.stop()


def test_a_second_backup_copies_what_is_new(made: Made, tmp_path: Path) -> None:
    """Objects and full tiles are copied once; a folder inside the deployment is refused."""
    with TestClient(create_app(made.settings)) as client:
        seal(client, made, b"one")
    words = ["backup", str(tmp_path / "copy"), "--folder", str(made.settings.folder)]
    assert run(words) == OK
    with TestClient(create_app(made.settings)) as client:
        seal(client, made, b"two")
    assert copy_deployment(made.settings, tmp_path / "copy", ("objects",))["objects"] == 1
    inside = str(made.settings.folder / "copy")
    assert run(["backup", inside, "--folder", str(made.settings.folder)]) == USAGE
    assert run([*words, "--only", "everything"]) == USAGE
    names = {path.name for path in (tmp_path / "copy").rglob("*") if path.suffix == ".pem"}
    assert names == set()


def test_a_dump_of_a_server_comes_back(postgres: PostgresServer, tmp_path: Path) -> None:
    """Files, then the dump, then objects; restored under the owner and granted again."""
    with postgres.database() as name:
        made = make_deployment(tmp_path / "deployment", database_url=postgres.url(name))
        signed = made.parties["county-a"].capture()
        with TestClient(create_app(made.settings)) as client:
            answer = announce(client, made, signed).content
        folder, copy = made.settings.folder, tmp_path / "copy"
        words = ["backup", str(copy), "--folder", str(folder), "--only"]
        assert run([*words, "log"]) == OK
        restored = postgres.snapshot(name)
        assert run([*words, "objects"]) == OK
    for part in ("heads", "tiles", "text-keys", "objects", "staging"):
        shutil.rmtree(folder / part)
        shutil.copytree(copy / part, folder / part)
    settings = msgspec.structs.replace(made.settings, database_url=postgres.url(restored))
    os.environ["FENGNI_DATABASE_URL"] = str(settings.database_url)
    try:
        words = ["migrate", str(folder), "--owner-url", postgres.url(restored, OWNER)]
        assert run(words) == OK
    finally:
        del os.environ["FENGNI_DATABASE_URL"]
    assert differences(settings) == []
    with TestClient(create_app(settings)) as client:
        assert announce(client, made, signed).content == answer
    postgres.drop(restored)


# ----------------------------------------------------------------- older copies put back


@pytest.fixture
def aged(tmp_path: Path) -> tuple[Attested, Path]:
    """A deployment that went on after a copy of its folder was made, and that copy."""
    attested = make_attested(tmp_path / "attested")
    made, old = attested.made, tmp_path / "old"
    with attested.outside():
        with TestClient(create_app(made.settings)) as client:
            seal(client, made, b"one")
        shutil.copytree(made.settings.folder, old)
        with TestClient(create_app(made.settings)) as client:
            seal(client, made, b"two")
            wait_until_cosigned(made)
    return attested, old


def wait_until_cosigned(made: Made) -> None:
    """Until the witness has seen the newest checkpoint."""
    database = made.settings.folder / "db" / "fengni.db"
    query = (
        "SELECT (SELECT max(size) FROM checkpoints WHERE log = ?1)"
        " = (SELECT max(size) FROM cosignatures WHERE log = ?1)"
    )
    deadline = time.monotonic() + 60
    while True:
        with closing(sqlite3.connect(database)) as connection:
            if connection.execute(query, (LOG,)).fetchone() == (1,):
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def put_back(folder: Path, old: Path, *parts: str) -> None:
    """Replace parts of a deployment by those of the old copy."""
    for part in parts:
        shutil.rmtree(folder / part)
        shutil.copytree(old / part, folder / part)


@pytest.mark.parametrize(
    ("parts", "believed"),
    [
        (("db",), {"log", "head", "witness"}),
        (("db", "heads"), {"log", "witness"}),
        (("db", "heads", "tiles", "text-keys"), {"witness"}),
    ],
)
def test_an_older_copy_is_refused(
    aged: tuple[Attested, Path], parts: tuple[str, ...], believed: set[str]
) -> None:
    """Whoever is left to know better says so: head, published files, witness."""
    attested, old = aged
    settings = attested.made.settings
    put_back(settings.folder, old, *parts)
    with attested.outside():
        told = {one.believed for one in differences(settings) if "rolled_back" in one.why}
        assert told == believed
        with pytest.raises(LogRolledBack), TestClient(create_app(settings)):
            pass


def test_a_devices_receipt_outlives_every_copy(made: Made, tmp_path: Path) -> None:
    """The whole folder put back, and no witness: the receipt that a phone kept convicts."""
    old = tmp_path / "old"
    shutil.copytree(made.settings.folder, old)
    receipts = tmp_path / "receipts"
    receipts.mkdir()
    with TestClient(create_app(made.settings)) as client:
        capture = seal(client, made, b"one")
        proof = get(client, made, f"/v1/captures/{capture}/proof")
        (receipts / "phone.tlog-proof").write_bytes(proof.content)
    shutil.rmtree(made.settings.folder)
    shutil.copytree(old, made.settings.folder)
    known = tmp_path / "known-keys.json"
    root = P256Signer.generate()
    content = replace(known_keys(made), root_keys=(root.public_key,))
    known.write_bytes(write_known_keys(content, [root]))
    with ServerProcess(made.settings.folder) as server:
        server.start()
        words = ["monitor", f"{server.url}/logs/{LOG}", "--known-keys", str(known)]
        options = ["--state", str(tmp_path / "state"), "--once", "--receipts", str(receipts)]
        patient = ["--stale-s", "1000000", "--unwitnessed-s", "1000000"]
        origin = ["--origin", f"fengni.example/{LOG}"]
        assert run([*words, *options, *patient, *origin]) == NO
        server.stop()
