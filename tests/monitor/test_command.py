"""`fengni monitor`: exit statuses, JSON, following until it is ended, and a real server."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from litestar.testing import TestClient

from evidence.canonical import JSONObject
from evidence.keys import P256Signer
from evidence.known_keys import write_known_keys
from evidence.statement import SignedStatement, make_statement, sign_statement
from service.cli import NO, OK, UNDECIDED, USAGE, run
from service.client.journal import Entry, open_journal
from service.deployment_file import Places
from storage import records
from storage.db.engine import Database
from tests.monitor.operator_at_large import History, Operator, history
from tests.service.deployment_maker import Made, make_deployment
from tests.service.server_process import ServerProcess
from tests.service.test_captures import seal
from tests.service.test_exports import known_keys
from tests.tools import ROOT

LONG_S = str(10**9)
PATIENT = ("--stale-s", LONG_S, "--unwitnessed-s", LONG_S)


def once(url: str, known: Path, state: Path, *more: str) -> int:
    """One whole look by the command."""
    words = [url, "--known-keys", str(known), "--state", str(state), "--once", *PATIENT]
    return run(["monitor", *words, *more])


@pytest.fixture
def operator() -> Operator:
    """A log of 40 entries that says that it was signed just now."""
    return Operator(history=history(60), size=40, signed_at_s=int(time.time()))


def test_the_status_tells_what_was_found(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 for a sound log, 1 for a finding, 2 for no answer or expired keys, 64 for wrong usage."""
    known = operator.known_keys_file(tmp_path / "known.json")
    state = tmp_path / "state"
    with operator.serving() as url:
        assert once(url, known, state, "--json") == OK
        told = json.loads(capsys.readouterr().out)
        assert (told["size"], told["witnessed"], told["findings"]) == (40, True, [])
        operator.size = 39
        assert once(url, known, state, "--json") == NO
        [finding] = json.loads(capsys.readouterr().out)["findings"]
        assert (finding["code"], len(finding["notes"])) == ("rolled_back", 2)
        assert once(url, known, state) == NO
        assert "rolled_back" in capsys.readouterr().out
        gone = datetime.now(UTC) - timedelta(seconds=1)
        old = operator.known_keys_file(tmp_path / "old.json", expires=gone)
        assert once(url, old, state) == UNDECIDED
        operator.broken = True
        assert once(url, known, state, "--json") == UNDECIDED
    assert "undecided" in capsys.readouterr().out
    assert once(url, known, state) == UNDECIDED
    assert once(url, tmp_path / "none", state) == USAGE
    assert once(url, known, tmp_path / "no" / "folder") == USAGE
    assert once(url, known, state, "--origin", "log.example/another") == UNDECIDED
    assert once(url, known, state, "--receipts", str(tmp_path / "none")) in {UNDECIDED, USAGE}
    (tmp_path / "text").write_text("no state" * 100)
    assert once(url, known, tmp_path / "text") == USAGE


def test_a_finding_of_a_time_limit_is_a_firm_no(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unwitnessed and stale beyond what the monitoring person allows."""
    known = operator.known_keys_file(tmp_path / "known.json")
    operator.cosigned, operator.signed_at_s = False, int(time.time()) - 100
    with operator.serving() as url:
        words = ["monitor", url, "--known-keys", str(known), "--state", str(tmp_path / "state")]
        assert run([*words, "--once", "--json", "--stale-s", "50", "--unwitnessed-s", "50"]) == NO
    found = json.loads(capsys.readouterr().out)["findings"]
    assert {one["code"] for one in found} == {"stale", "unwitnessed"}


def test_it_follows_until_it_is_ended(operator: Operator, tmp_path: Path) -> None:
    """One line a look; a fork while it follows is in the next line and in the status."""
    known = operator.known_keys_file(tmp_path / "known.json")
    with operator.serving() as url:
        command = [sys.executable, "-m", "service.cli", "monitor", url, "--known-keys", str(known)]
        options = ["--state", str(tmp_path / "state"), "--every-s", "1", "--json", *PATIENT]
        with subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            assert once(url, known, tmp_path / "state") == USAGE  # one monitor a state
            operator.show(history(60, flavour="b", since=10), 50)
            second = json.loads(process.stdout.readline())
            while not second["findings"]:  # a look that had begun before
                second = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            status = process.wait(30)
    assert (first["size"], first["whole"], first["findings"]) == (40, True, [])
    assert [one["code"] for one in second["findings"]] == ["two_histories"]
    assert status == NO


def test_a_journal_of_our_own_client_is_read(
    operator: Operator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The receipts that `fengni upload` keeps are held against the tree, while it is in use."""
    known = operator.known_keys_file(tmp_path / "known.json")
    signer = P256Signer.generate()
    with open_journal(tmp_path / "journal") as journal:
        for number, receipt in enumerate((operator.receipt(3, 40), None)):
            signed = signed_capture(signer, number)
            journal.add(Entry(signed=signed, kind="capture"), audience="test", likeness=str(number))
            if receipt is not None:
                journal.keep_receipts([(signed.id, receipt)])
        with operator.serving() as url:
            words = ("--receipts", str(tmp_path / "journal"), "--json")
            assert once(url, known, tmp_path / "state", *words) == OK
            assert json.loads(capsys.readouterr().out)["receipts"] == 1
            operator.show(History(operator.history.entries[4:]), 50)
            assert once(url, known, tmp_path / "new", *words) == NO
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert finding["code"] == "receipt_dropped"


def test_a_real_server_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sound while it serves and grows; a damaged tile and a state that was put back are found."""
    made = make_deployment(tmp_path / "deployment")
    folder = made.settings.folder
    log = made.deployment.organs[0].log
    known, state = tmp_path / "known.json", tmp_path / "state"
    known.write_bytes(trust_file(made))
    words = (known, state, "--origin", log.origin, "--json")
    with ServerProcess(folder, inspect_workers=0) as server:
        url = f"{server.url}/logs/{log.id}"
        server.start()
        server.stop()
        shutil.copytree(folder, tmp_path / "backup")
        server.start()
        with httpx.Client(base_url=server.url, timeout=30) as http:
            client = cast("TestClient[Any]", http)  # the helpers only send requests
            for number in range(2):
                seal(client, made, b"photo %d" % number)
                wait_until_published(url, folder, log.id)
                assert once(url, *words) == OK
        seen = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert seen[0]["size"] < seen[1]["size"]
        tile = next((folder / "tiles" / log.id / "tile" / "0" / "000.p").iterdir())
        whole = tile.read_bytes()
        tile.chmod(0o600)
        tile.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        assert once(url, *words) == NO
        assert found(capsys) == {"tile_damaged"}
        tile.write_bytes(whole)
        server.stop()
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "backup", folder)
        server.start()
        assert once(url, *words) == NO
        assert found(capsys) == {"rolled_back"}
        with httpx.Client(base_url=server.url, timeout=30) as http:
            client = cast("TestClient[Any]", http)
            for number in range(4):  # another history, signed by a real log with its real key
                seal(client, made, b"other %d" % number)
        wait_until_published(url, folder, log.id)
        assert once(url, *words) == NO
        assert found(capsys) == {"rolled_back", "two_histories"}


def found(capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The codes in the last line that was printed."""
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    return {one["code"] for one in told["findings"]}


def wait_until_published(url: str, folder: Path, log: str) -> None:
    """Return when the published checkpoint is the newest that was signed."""
    db = Database(Places(folder).database_url)
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            with db.read() as connection:
                newest = records.newest_checkpoint(connection, log)
            assert newest is not None
            if httpx.get(f"{url}/checkpoint").text.split("\n")[1] == str(newest.size):
                return
            time.sleep(0.05)
    finally:
        db.close()
    raise AssertionError("not published")


def trust_file(made: Made) -> bytes:
    """What a stranger pins, as a file."""
    root = P256Signer.generate()
    return write_known_keys(replace(known_keys(made), root_keys=(root.public_key,)), [root])


def signed_capture(signer: P256Signer, number: int) -> SignedStatement:
    """A statement for a journal."""
    content: JSONObject = {"sha256": f"{number:064x}", "size_bytes": 1, "media_type": "image/jpeg"}
    raw = make_statement(
        "capture",
        audience="test",
        organ="county-a",
        signer=signer.key_id,
        salt=f"{number:032x}",
        made_at=datetime.now(UTC),
        body={"content": content, "mode": "import", "captured_at": "2026-11-23T01:04:05.678Z"},
    )
    return sign_statement(raw, signer)
