"""A log ends and its successor says so: in order at the year's end, and after leaves were lost."""

import io
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from evidence.canonical import JSONObject
from evidence.keys import P256Signer
from evidence.known_keys import KnownKeys, check_successor, parse_known_keys, write_known_keys
from evidence.packing import Contents, write_package
from evidence.report import Outcome
from evidence.statement import SignedStatement, Statement, parse_statement, to_wire
from evidence.tlog.note import ED25519
from evidence.verify import verify_package
from service.app import create_app, start
from service.cli import OK, USAGE, run
from service.contents import Vault
from service.context import Context, log_stores, open_context, system_clock
from service.deployment_file import LogSettings, OrganSettings, database_url, read_deployment
from service.exports.build import Shelf, choose_anchor, collect, lay_out
from service.key_files import log_signer
from service.law.refusals import KindRefused, SubjectMismatch
from service.metrics import Metrics
from service.proofs import newest_stamped_size
from service.settings import Settings
from service.transparency.witness import add_log, remembered
from service.truth.rebuild import rebuild_database
from storage import records
from storage.db.engine import Database
from storage.errors import LogRolledBack
from storage.log import Log, OpenLog
from tests.postgres import PostgresServer
from tests.sampling import sampled
from tests.service.attested_maker import Attested, make_attested
from tests.service.deployment_maker import AUDIENCE, Made
from tests.service.test_attesting import wait_for
from tests.service.test_captures import get, seal
from tests.service.test_exports import ask, fetch, known_keys
from tests.service.truth_maker import differences
from tests.tools import ROOT

Client = TestClient[Any]
OLD, NEW = "county-a-2026", "county-a-2027"
ORIGIN = f"fengni.example/{NEW}"


@pytest.fixture
def attested(tmp_path: Path) -> Iterator[Attested]:
    """A deployment that is cosigned and stamped, with its registrar's desk and trust file."""
    made = make_attested(tmp_path)
    write_desk(made)
    with made.outside():
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def on_either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Attested]:
    """The same with its rows in a file, and on a server."""
    with ExitStack() as held:
        url = None
        if request.param == "postgres":
            server: PostgresServer = request.getfixturevalue("postgres")
            url = server.url(held.enter_context(server.database()))
        made = make_attested(tmp_path, url)
        write_desk(made)
        held.enter_context(made.outside())
        yield made


def write_desk(attested: Attested) -> None:
    """The folder of county-a's registrar, as `fengni init` would have left it."""
    made = attested.made
    desk = attested.place / "desk"
    desk.mkdir()
    root = P256Signer.generate()
    (desk / "registrar.pem").write_bytes(made.parties["county-a"].registrar.to_pem())
    (desk / "root.pem").write_bytes(root.to_pem())
    house = {"audience": AUDIENCE, "organ": "county-a"}
    (desk / "registrar.json").write_bytes(msgspec.json.encode(house))
    chain = [to_wire(signed) for signed in logged(made.settings, OLD, "key")]
    (desk / "chain.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in chain))
    content = replace(attested.pinned(known_keys(made)), root_keys=(root.public_key,))
    path = made.settings.folder / "known-keys.json"
    path.write_bytes(write_known_keys(content, [root]))


def logged(settings: Settings, log: str, kind: str) -> list[SignedStatement]:
    """The statements of a kind in a log."""
    db = Database(database_url(settings, read_deployment(settings)))
    found: list[SignedStatement] = []
    try:
        with db.read() as connection:
            for record in records.records_of_kind(connection, log, kind):
                text = records.text_at(connection, log, record.index)
                assert text is not None
                found.append(
                    SignedStatement(raw=text, signature=record.signature, key_id=record.key_id)
                )
    finally:
        db.close()
    return found


def first(settings: Settings, log: str) -> Statement:
    """A log's first entry."""
    db = Database(database_url(settings, read_deployment(settings)))
    try:
        with db.read() as connection:
            text = records.text_at(connection, log, 0)
    finally:
        db.close()
    assert text is not None
    return parse_statement(text)


def words(attested: Attested, reason: str) -> list[str]:
    """The command."""
    folder, desk = str(attested.made.settings.folder), str(attested.place / "desk")
    options = ["--origin", ORIGIN, "--log", NEW, "--registrar", desk, "--reason", reason]
    return ["log", "succeed", folder, *options]


def sealed(attested: Attested, content: bytes, log: str) -> tuple[str, bytes]:
    """Seal a photo with everything that proves it; its id and its package."""
    settings = msgspec.structs.replace(attested.made.settings, inspect_workers=1)
    with TestClient(create_app(settings)) as client:
        capture = seal(client, attested.made, content)
        wait_for(lambda: get(client, attested.made, f"/v1/captures/{capture}/bundle"))
        assert client.get(f"/logs/{log}/checkpoint").status_code == 200
        package = fetch(
            client, attested.made, ask(client, attested.made, capture).headers["location"]
        )
        settle(client)
        await_stamp(settings, log)
    return capture, package


def await_stamp(settings: Settings, log: str) -> None:
    """Return when the log's newest checkpoint has its time-stamp."""
    db = Database(database_url(settings, read_deployment(settings)))
    try:
        for _ in range(600):
            with db.read() as connection:
                if newest_stamped_size(connection, log) == newest_size(settings, log):
                    return
            time.sleep(0.05)
    finally:
        db.close()
    raise AssertionError("the newest checkpoint has no time-stamp")


def settle(client: Client) -> None:
    """Return when no work waits."""
    for _ in range(600):
        if "fengni_queued{" not in client.get("/metrics").text:
            return
        time.sleep(0.05)
    raise AssertionError("work is left")


def trusted(attested: Attested) -> KnownKeys:
    """The trust file as it is now."""
    return parse_known_keys((attested.made.settings.folder / "known-keys.json").read_bytes())


def judged(package: bytes, known: KnownKeys) -> Outcome:
    """What a stranger says."""
    return verify_package(io.BytesIO(package), known, datetime.now(UTC)).outcome


def test_two_years_stand_in_two_logs_and_one_package(on_either: Attested) -> None:
    """The old shard ends, the new one says so, both verify, and so does a package of both."""
    attested, made = on_either, on_either.made
    before = trusted(attested)
    old, _ = sealed(attested, b"in the old year", OLD)
    assert run(words(attested, "year")) == OK
    after = check_successor(before, (made.settings.folder / "known-keys.json").read_bytes())
    assert set(after.logs) == {f"fengni.example/{OLD}", ORIGIN}
    keys = log_signer(made.settings, read_deployment(made.settings).organs[0].log).verifier_keys
    add_log(attested.place / "west", ORIGIN, [key.encode() for key in keys])

    begun = first(made.settings, NEW)
    newest = newest_size(made.settings, OLD)
    assert begun.kind == "succession"
    assert begun.signer == made.parties["county-a"].registrar.key_id
    assert begun.body["predecessor"]["size"] == newest  # type: ignore[index,call-overload]
    assert begun.body["reason"] == "year"

    new, package = sealed(attested, b"in the new year", NEW)
    with TestClient(create_app(made.settings)) as client:
        check_both_are_served(client, made, newest)
    assert judged(package, after) is Outcome.PASS
    assert judged(package, before) is not Outcome.PASS  # the new log is not pinned there
    assert newest_size(made.settings, OLD) == newest
    assert differences(made.settings) == []  # the closed log's rows are compared as well
    if made.deployment.database_url is None:
        gone = attested.place / "gone"
        shutil.move(made.settings.folder / "db", gone)
        (made.settings.folder / "db").mkdir()
        rebuild_database(made.settings, system_clock(), salvage=f"sqlite:///{gone / 'fengni.db'}")
        assert differences(made.settings) == []
    both = package_of(made.settings, {OLD: old, NEW: new})
    assert judged(both, after) is Outcome.PASS
    assert run(words(attested, "year")) == USAGE  # a successor has a new origin


def check_both_are_served(client: Client, made: Made, size: int) -> None:
    """The closed log's files lie where they lay, and the list of logs names both."""
    assert client.get(f"/logs/{OLD}/checkpoint").text.split("\n")[:2] == [
        f"fengni.example/{OLD}",
        str(size),
    ]
    assert len(client.get(f"/logs/{OLD}/tile/0/000.p/{size}").content) == 32 * size
    logs = get(client, made, "/v1/logs").json()
    assert [(log["id"], log["closed"]) for log in logs] == [(NEW, False), (OLD, True)]


def newest_size(settings: Settings, log: str) -> int:
    """The size of a log's newest checkpoint."""
    db = Database(database_url(settings, read_deployment(settings)))
    try:
        with db.read() as connection:
            newest = records.newest_checkpoint(connection, log)
    finally:
        db.close()
    assert newest is not None
    return newest.size


def package_of(settings: Settings, captures: dict[str, str]) -> bytes:
    """One package of captures in several logs, each proven into its own."""
    [organ] = [one for one in read_deployment(settings).organs if one.id == "county-a"]
    context = open_context(settings)
    parts: list[Contents] = []
    try:
        for log in (organ.log, *organ.closed_logs):
            if log is organ.log:
                parts.append(part_of(context, organ, log, context.organs["county-a"].log, captures))
                continue
            stores = log_stores(context.settings, log, context.db, context.keys, None)
            signer = log_signer(settings, log)
            with Log.open(stores, signer=signer, clock=context.clock, confirmed=False) as closed:
                parts.append(part_of(context, organ, log, closed, captures))
        whole = Contents(
            audience=AUDIENCE,
            made_at=context.clock(),
            captures=[one for part in parts for one in part.captures],
            statements=[one for part in parts for one in part.statements],
            timestamps={k: v for part in parts for k, v in part.timestamps.items()},
            originals=[one for part in parts for one in part.originals],
        )
        out = io.BytesIO()
        write_package(whole, out)
        return out.getvalue()
    finally:
        context.close()


def part_of(
    context: Context,
    organ: OrganSettings,
    log: LogSettings,
    opened: Log | OpenLog,
    captures: dict[str, str],
) -> Contents:
    """What a package holds of one log."""
    shelf = Shelf(
        db=context.db,
        log=opened,
        log_id=log.id,
        log_key=next(
            key for key in log_signer(context.settings, log).verifier_keys if key.kind == ED25519
        ),
        policy=context.organs[organ.id].policy,
        vault=Vault(objects=context.objects, keys=context.keys),
        audience=AUDIENCE,
        authorities=1,
    )
    with context.db.read() as connection:
        checks = records.records_of_kind(connection, log.id, "check")
    held = collect(shelf, [captures[log.id]], [checks[-1].statement_id])
    anchor = choose_anchor(shelf, held[-1].record.index)
    assert anchor.complete
    return lay_out(shelf, [captures[log.id]], held, anchor, context.clock())


def test_lost_leaves_end_a_log_and_the_successor_admits_them(attested: Attested) -> None:
    """Put back behind a witness: the origin signs no more; its successor says how far it was."""
    made = attested.made
    folder = made.settings.folder
    _, package = sealed(attested, b"kept", OLD)
    shutil.copytree(folder, attested.place / "backup")
    lost, its_package = sealed(attested, b"lost", OLD)
    seen = newest_size(made.settings, OLD)
    shutil.rmtree(folder)
    shutil.copytree(attested.place / "backup", folder)
    ours = newest_size(made.settings, OLD)
    assert ours < seen
    with pytest.raises(LogRolledBack):
        start(made.settings, Metrics())
    assert run(words(attested, "year")) == USAGE  # an orderly end it is not
    assert newest_size(made.settings, OLD) == ours
    assert run(words(attested, "rolled_back")) == OK
    begun = first(made.settings, NEW)
    predecessor = begun.body["predecessor"]
    assert isinstance(predecessor, dict)
    assert predecessor["size"] == cosigned_size(attested)
    assert predecessor["size"] > ours  # type: ignore[operator]
    keys = log_signer(made.settings, read_deployment(made.settings).organs[0].log).verifier_keys
    add_log(attested.place / "west", ORIGIN, [key.encode() for key in keys])
    _, new_package = sealed(attested, b"after", NEW)
    known = trusted(attested)
    assert [judged(one, known) for one in (package, its_package, new_package)] == [Outcome.PASS] * 3
    assert lost
    assert newest_size(made.settings, OLD) == ours


def cosigned_size(attested: Attested) -> int:
    """How far the witness saw the old log."""
    return remembered(attested.place / "west")[f"fengni.example/{OLD}"].size


def test_only_the_registrar_begins_a_log_and_only_at_its_beginning(attested: Attested) -> None:
    """No other key may say so, and nobody later: that would disown what is before."""
    made = attested.made
    party = made.parties["county-a"]
    body: JSONObject = {
        "log": f"fengni.example/{OLD}",
        "predecessor": {"log": "fengni.example/before", "size": 3, "root": "ab" * 32},
        "reason": "moved",
    }
    context = open_context(made.settings)
    try:
        late = party.sign("succession", body, signer=party.registrar)
        elsewhere = party.sign("succession", {**body, "log": ORIGIN}, signer=party.registrar)
        device = party.sign("succession", body)
        admission = context.organs["county-a"].admission
        handed_in = admission.submit_signed([late, elsewhere, device]).result(30)
        begun = [admission.begin(one).result(30)[0] for one in (late, device)]
        with pytest.raises(SubjectMismatch):
            admission.begin(elsewhere)
        with pytest.raises(KindRefused):
            admission.begin(party.capture())
    finally:
        context.close()
    assert [type(one) for one in handed_in] == [KindRefused] * 3  # nobody hands one in
    assert [type(one) for one in begun] == [KindRefused] * 2  # and this log has begun


KILLED = """
import os, signal, sys
from service.cli import run
import service.setup.succession as made
from service.setup.registrar import Desk

name = sys.argv[1]
def end(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
setattr(Desk if name in ("enrol", "_succession") else made, name, end)
run(sys.argv[2:])
"""


@sampled(
    "step", ["create_log", "_succession", "enrol", "_renew_known_keys", "write_deployment"], count=2
)
def test_a_killed_succession_goes_on(on_either: Attested, step: str) -> None:
    """Wherever it was killed the old log is still the organ's; again, there is one beginning."""
    attested, made = on_either, on_either.made
    with TestClient(create_app(made.settings)) as client:
        client.get("/healthz")
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, step, *words(attested, "year")], cwd=ROOT, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert read_deployment(made.settings).organs[0].log.id == OLD
    assert run(words(attested, "year")) == OK
    assert [one.id for one in logged(made.settings, NEW, "succession")] == [
        first(made.settings, NEW).id
    ]
    chain = [parse_statement(one.raw).body["sequence"] for one in logged(made.settings, NEW, "key")]
    assert chain == [1, 2]
    assert trusted(attested).version == 2
