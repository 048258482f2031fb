"""`fengni export`: whole or not at all, over nothing that should stay."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from litestar.testing import TestClient

from service.cli import run
from service.client.config import ClientConfig, write_config
from tests.service.deployment_maker import AUDIENCE, make_deployment
from tests.service.server_process import ServerProcess
from tests.service.test_captures import seal
from tests.tools import ROOT

Captured = pytest.CaptureFixture[str]
ID = "ab" * 32
LIMIT_KIB = 4


def configured(place: Path, server: str, token: str) -> list[str]:
    """The options that name a client's configuration for this server."""
    config = ClientConfig(
        server=server,
        token=token,
        audience=AUDIENCE,
        organ="county-a",
        log="county-a-2026",
        origin="example.org/county-a",
        device_key_file=str(place / "device.pem"),
        known_keys_file=str(place / "known-keys.json"),
        journal_folder=str(place / "journal"),
    )
    write_config(place / "client.json", config)
    return ["--config", str(place / "client.json"), "--quiet"]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """A capture on a real server, and the options of a client that may export it."""
    place = tmp_path_factory.mktemp("served")
    made = make_deployment(place / "deployment")
    with ServerProcess(made.settings.folder) as server:
        server.start()
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            capture = seal(cast("TestClient[Any]", client), made)
        yield capture, configured(place, server.url, made.tokens["county-a"])
        server.stop()


def test_a_package_takes_no_other_file_s_place_unasked(
    sealed: tuple[str, list[str]], tmp_path: Path, capsys: Captured
) -> None:
    """What is there stays without --force; with it, it is replaced. Capitals are the same id."""
    capture, options = sealed
    out = tmp_path / "evidence.zip"
    first = run(["export", capture.upper(), "--out", str(out), *options])
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert (first, digest in capsys.readouterr().out) == (0, True)
    out.write_bytes(b"mine")
    assert run(["export", capture, "--out", str(out), *options]) == 64
    assert out.read_bytes() == b"mine"
    assert "--force replaces it" in capsys.readouterr().err
    assert run(["export", capture, "--out", str(out), "--force", *options]) == 0
    assert out.read_bytes()[:2] == b"PK"
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.zip"]


def test_a_package_that_does_not_fit_is_74_and_leaves_nothing(
    sealed: tuple[str, list[str]], tmp_path: Path
) -> None:
    """At a limit of the file system the status says so, and the former file is untouched."""
    capture, options = sealed
    out = tmp_path / "evidence.zip"
    out.write_bytes(b"mine")
    limited = f'ulimit -f {LIMIT_KIB}; exec "$0" -m service.cli "$@"'
    words = ["export", capture, "--out", str(out), "--force", *options]
    ended = subprocess.run(
        ["bash", "-c", limited, sys.executable, *words],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, "Traceback" in ended.stderr) == (74, False)
    assert f"{out} cannot be written" in ended.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "evidence.zip": b"mine"
    }


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "loose link"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_what_is_no_file_is_never_replaced(
    tmp_path: Path, kind: str, force: list[str], capsys: Captured
) -> None:
    """Folders, pipes, links: a plain sentence, wrong usage, and no server is asked."""
    out, target = tmp_path / "out", tmp_path / "target"
    if kind == "folder":
        out.mkdir()
    elif kind == "pipe":
        os.mkfifo(out)
    else:
        out.symlink_to(target)
    if kind == "link":
        target.write_bytes(b"mine")
    before = out.lstat()
    options = configured(tmp_path, "http://127.0.0.1:1", "token")
    assert run(["export", ID, "--out", str(out), *force, *options]) == 64
    name = {"link": "symbolic link", "loose link": "symbolic link"}.get(kind, kind)
    assert f"out is a {name}" in capsys.readouterr().err
    assert (out.lstat().st_ino, out.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert target.exists() == (kind == "link")


@pytest.mark.parametrize(("name", "words"), [("xy" * 32, "is no id"), ("ABC", "8 digits")])
def test_what_is_no_id_is_told_so(tmp_path: Path, name: str, words: str, capsys: Captured) -> None:
    """Before the server is asked."""
    options = configured(tmp_path, "http://127.0.0.1:1", "token")
    assert run(["export", name, "--out", str(tmp_path / "x.zip"), *options]) == 64
    assert words in " ".join(capsys.readouterr().err.split())
