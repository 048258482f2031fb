"""`fengni keys` and `fengni retention`: what an administrator and three persons type."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.cli import run
from service.client.config import ClientConfig, read_config
from service.deployment_file import Places
from service.fsck import check_logs
from service.settings import read_settings
from storage.keys.stores import FileKeys
from storage.keys.wrapping import FileWrapper
from tests.service.deployment_maker import PHOTO, make_deployment
from tests.service.retention_maker import make, sealed_capture, serve
from tests.service.server_process import ServerProcess
from tests.service.test_captures import seal


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """The exit status of a command, and the JSON that it wrote."""
    capsys.readouterr()
    status = run([*words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_a_new_deployment_wraps_its_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `fengni init` makes has wrapped keys from its first entry on; rotation moves them."""
    folder = str(tmp_path / "server")
    names = ["--organ", "county-a", "--log", "a-2026", "--origin", "fengni.example/a-2026"]
    assert run(["init", folder, *names, "--registrar", str(tmp_path / "desk")]) == 0
    status, found = said(capsys, "keys", "verify", folder)
    assert (status, found["faults"], list(found["keys"])) == (0, [], [found["current"]])
    assert run(["keys", "rotate", folder, "--forget-former"]) == 0
    again = said(capsys, "keys", "verify", folder)[1]
    assert again["current"] != found["current"]
    assert list(again["keys"]) == [again["current"]]


def test_keys_of_an_earlier_deployment_are_wrapped_by_rotating(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a wrapping key it goes on as before; with one, every text opens as it did."""
    made = make_deployment(tmp_path / "server")
    with serve(made) as client:
        seal(client, made)
    folder = str(made.settings.folder)
    assert list(said(capsys, "keys", "verify", folder)[1]["keys"]) == [""]
    assert run(["keys", "rotate", folder]) != 0
    FileWrapper.create(tmp_path / "kek")
    monkeypatch.setenv("FENGNI_KEK_FILE", str(tmp_path / "kek"))
    assert run(["keys", "rotate", folder]) == 0
    found = said(capsys, "keys", "verify", folder)[1]
    assert list(found["keys"]) == [found["current"]]
    settings = read_settings({"FENGNI_FOLDER": folder, "FENGNI_KEK_FILE": str(tmp_path / "kek")})
    assert [finding for log in check_logs(settings) for finding in log.findings] == []


def test_a_lost_key_store_comes_back_from_its_backup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lost content is read again; a damaged backup, or a readable backup key, is refused."""
    made = make(tmp_path / "server")
    folder, backup, key = str(made.settings.folder), tmp_path / "keys", tmp_path / "backup-key"
    with serve(made) as client:
        capture = sealed_capture(client, made, PHOTO)
    assert run(["keys", "backup", str(backup), "--key", str(key), folder]) == 0
    assert run(["keys", "backup", str(backup), "--key", str(key), folder]) != 0
    assert PHOTO[4:-2] not in backup.read_bytes()
    path = Places(made.settings.folder).text_keys
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    FileKeys.create(path).close()
    damaged = tmp_path / "damaged"
    damaged.write_bytes(backup.read_bytes()[:-1])
    assert run(["keys", "restore", str(damaged), "--key", str(key), folder]) != 0
    key.chmod(0o644)
    assert run(["keys", "restore", str(backup), "--key", str(key), folder]) != 0
    key.chmod(0o600)
    assert run(["keys", "restore", str(backup), "--key", str(key), folder]) == 0
    assert said(capsys, "keys", "verify", folder)[0] == 0
    with serve(made) as client:
        content = client.get(
            f"/v1/captures/{capture}/content",
            headers={"Authorization": f"Bearer {made.tokens['head@county-a']}"},
        )
    assert content.content == PHOTO


def test_verify_names_a_damaged_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key that is no key is named, and the status says so."""
    made = make(tmp_path / "server")
    with closing(sqlite3.connect(Places(made.settings.folder).text_keys)) as raw, raw:
        raw.execute("UPDATE text_keys SET key = x'00' WHERE idx = 1 AND origin LIKE '%a-2026'")
    status, found = said(capsys, "keys", "verify", str(made.settings.folder))
    assert (status, len(found["faults"])) == (1, 1)
    assert found["faults"][0].startswith("text 1 of fengni.example/county-a-2026")


def config_of(folder: Path, server: str, name: str, token: str) -> str:
    """A person's own configuration."""
    config = ClientConfig(
        server=server,
        token=token,
        audience="test",
        organ="county-a",
        log="county-a-2026",
        origin="fengni.example/county-a-2026",
        device_key_file=str(folder / "none.pem"),
        known_keys_file=str(folder / "none.json"),
        journal_folder=str(folder / "journal"),
    )
    path = folder / f"{name}.json"
    path.write_bytes(msgspec.json.encode(config))
    path.chmod(0o600)
    assert read_config(path, None).token == token
    return str(path)


def test_people_keep_and_end_content_by_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shown, held, released, requested and approved, each by his own token."""
    made = make(tmp_path / "server")
    with serve(made) as client:
        capture = sealed_capture(client, made, PHOTO, mode="attended")
    with ServerProcess(made.settings.folder) as server:
        server.start()
        people = {
            name: ["--config", config_of(tmp_path, server.url, name, made.tokens[key])]
            for name in ("clerk", "head", "jurist")
            if (key := f"{name}@county-a")
        }

        def does(name: str, *words: str) -> tuple[int, Any]:
            """A command of one person."""
            return said(capsys, "retention", *words, *people[name])

        status, shown = does("head", "show", capture)
        assert (status, shown.get("sealed")) == (0, False), shown
        held = does("head", "hold", capture, "--reference", "h-1", "--authority", "法院函")
        assert held[1]["holds"] == ["h-1"]
        article = ["--authority", "个人信息保护法 第47条"]
        refused = does("clerk", "request", capture, *article)
        assert (refused[0] != 0, refused[1]["error"]["code"]) == (True, "on_hold")
        assert does("jurist", "release", capture, "--reference", "h-1")[1]["holds"] == []
        asked = does("clerk", "request", capture, *article)[1]["request"]
        assert does("clerk", "approve", capture, asked)[1]["error"]["code"] == "same_person"
        assert does("head", "approve", capture, asked)[0] == 0
        locked = ["--reference", "case-1", "--until", "2030-01-01T00:00:00Z"]
        assert does("jurist", "admit", capture, *locked)[1]["request"] is None
        late = does("jurist", "approve", capture, asked)
        assert late[1]["error"]["code"] == "not_requested"
