"""Production mode refuses what only development may have: each thing by its code and sentence."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidence.keys import P256Signer
from evidence.tlog.note import parse_vkey
from service.cli import run
from service.context import open_context
from service.deployment_file import AuthoritySettings, WitnessSettings, read_deployment
from service.doctor import _check_settings
from service.doctor.diagnosis import Answer
from service.production import REFUSED, find_unsafe, require_production
from service.settings import Settings, SettingsInvalid
from service.setup.parties import Witness, witness_policy
from service.transparency.tsa import create_tsa
from service.transparency.witness import create_witness
from tests.tools import require_tool

Deployed = dict[str, Any]
VERIFIED = "?sslmode=verify-full"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a deployment that production mode takes: keys, two roots, a policy."""
    require_tool("openssl")
    folder = tmp_path_factory.mktemp("outside")
    (folder / "keys").mkdir()
    for name in ("server", "log", "log-ml-dsa"):
        path = folder / "keys" / f"{name}.pem"
        path.write_bytes(P256Signer.generate().to_pem())
        path.chmod(0o600)
    for name in ("one", "two"):
        (folder / "keys" / f"{name}.der").write_bytes(create_tsa(folder / f"tsa-{name}"))
    vkeys = create_witness(folder / "witness", "w1.example/w1", [])
    witness = Witness(name="w1", url="https://w1.example", keys=tuple(map(parse_vkey, vkeys)))
    (folder / "policy.txt").write_bytes(witness_policy([], [witness]).encode())
    (folder / "none.txt").write_bytes(witness_policy([], []).encode())
    return folder


def organ() -> Deployed:
    """An organ's part of the deployment file, with outside parties."""
    return {
        "id": "county-a",
        "log": {
            "id": "a-2026",
            "origin": "fengni.example/a-2026",
            "ed25519_key_file": "keys/log.pem",
            "ml_dsa_key_file": "keys/log-ml-dsa.pem",
        },
        "server_key_file": "keys/server.pem",
        "registrars": [],
        "witnesses": [{"name": "w1", "url": "https://w1.example"}],
        "authorities": [
            {"name": name, "url": f"https://{name}.example", "root_files": [f"keys/{name}.der"]}
            for name in ("one", "two")
        ],
        "witness_policy_file": "policy.txt",
    }


@pytest.fixture
def folder(outside: Path, tmp_path: Path) -> Path:
    """A copy of the files with a deployment file that production mode takes."""
    made = tmp_path / "deployment"
    subprocess.run(["cp", "-a", outside, made], check=True)
    write(made, {})
    return made


def write(folder: Path, changes: Deployed, **of_organ: object) -> None:
    """Write the deployment file with some members changed."""
    document = {"audience": "demo", "organs": [organ() | of_organ], **changes}
    (folder / "deployment.json").write_bytes(msgspec.json.encode(document))


def witness(**changes: object) -> list[Deployed]:
    """The organ's one witness, changed."""
    return [{"name": "w1", "url": "https://w1.example"} | changes]


def authorities(**changes: object) -> list[Deployed]:
    """The organ's two authorities, the second changed."""
    first, second = organ()["authorities"]
    return [first, second | changes]


def put_registrar(folder: Path) -> None:
    """Leave the registrar's folder where `fengni init` puts it if nobody says otherwise."""
    (folder / "registrar").mkdir()
    (folder / "registrar" / "registrar.pem").write_bytes(b"a key")


def put_kek(folder: Path) -> None:
    """Let others read what wraps the keys that can be destroyed."""
    write(folder, {"kek_file": "keys/kek"})
    (folder / "keys" / "kek").write_bytes(b"a key")
    (folder / "keys" / "kek").chmod(0o644)


def server(port: int, query: str = VERIFIED) -> str:
    """The URL of a database on another machine."""
    return f"postgresql+psycopg://fengni@db.example:{port}/fengni{query}"


UNSAFE: list[tuple[str, Callable[[Path], None], dict[str, object]]] = [
    ("development_keys", lambda f: write(f, {"development_keys": True}), {}),
    ("registrar_here", put_registrar, {}),
    ("keys_readable", lambda f: (f / "keys" / "server.pem").chmod(0o640), {}),
    (
        "development_authority",
        lambda f: write(f, {}, authorities=authorities(development=True)),
        {},
    ),
    (
        "authority_without_tls",
        lambda f: write(f, {}, authorities=authorities(url="http://two.example")),
        {},
    ),
    ("too_few_authorities", lambda f: write(f, {}, authorities=authorities()[:1]), {}),
    (
        "authorities_alike",
        lambda f: write(f, {}, authorities=authorities(url="https://one.example/second")),
        {},
    ),
    (
        "authorities_alike",
        lambda f: write(f, {}, authorities=authorities(root_files=["keys/one.der"])),
        {},
    ),
    ("development_witness", lambda f: write(f, {}, witnesses=witness(development=True)), {}),
    ("witness_without_tls", lambda f: write(f, {}, witnesses=witness(url="http://w1.example")), {}),
    ("no_witness", lambda f: write(f, {}, witnesses=[]), {}),
    ("witness_policy_none", lambda f: write(f, {}, witness_policy_file=None), {}),
    ("witness_policy_none", lambda f: write(f, {}, witness_policy_file="none.txt"), {}),
    ("store_without_tls", lambda _: None, {"objects": "s3", "s3_endpoint": "http://s3.example"}),
    (
        "store_unproven",
        lambda _: None,
        {"objects": "s3", "s3_endpoint": "https://s3.example", "objects_unproven": "state"},
    ),
    ("database_without_tls", lambda f: write(f, {"database_url": server(5432, "")}), {}),
    (
        "database_without_tls",
        lambda f: write(
            f, {"database_url": server(5432), "heads_url": server(5433, "?sslmode=require")}
        ),
        {},
    ),
    (
        "heads_on_one_server",
        lambda f: write(f, {"database_url": server(5432), "heads_url": server(5432)}),
        {},
    ),
    (
        "keys_on_one_server",
        lambda f: write(f, {"database_url": server(5432), "keys_url": server(5432)}),
        {},
    ),
    (
        "database_without_tls",
        lambda f: write(f, {"database_url": server(5432), "keys_url": server(5433, "")}),
        {},
    ),
    ("keys_readable", put_kek, {}),
    ("webhooks_inside", lambda _: None, {"webhooks_private": True}),
    ("disk_reserve_small", lambda _: None, {"disk_reserve_bytes": 1}),
]


@pytest.mark.parametrize(("code", "spoil", "settings"), UNSAFE)
def test_production_refuses_and_development_warns(
    folder: Path, code: str, spoil: Callable[[Path], None], settings: dict[str, object]
) -> None:
    """The one thing that was spoilt is found by its code; only production mode refuses to start."""
    spoil(folder)
    given = Settings(folder=folder, **settings)  # type: ignore[arg-type]
    deployment = read_deployment(given)
    assert [one.code for one in find_unsafe(given, deployment)] == [code]
    require_production(given, deployment)
    production = msgspec.structs.replace(given, mode="production")
    with pytest.raises(SettingsInvalid) as refused:
        open_context(production)
    assert str(refused.value).startswith("Production mode refuses to start. ")
    assert f"{code}: {REFUSED[code]}" in str(refused.value)


def test_every_refusal_is_tried() -> None:
    """No code is in the registry that no test provokes."""
    assert {code for code, _, _ in UNSAFE} == set(REFUSED)


def test_production_takes_outside_parties_and_both_shapes(folder: Path) -> None:
    """SQLite with a directory, and two database servers with a bucket: nothing is unsafe."""
    county = Settings(folder=folder, mode="production")
    require_production(county, read_deployment(county))
    write(folder, {"database_url": server(5432), "heads_url": server(5433)})
    bucket = {"objects": "s3", "s3_endpoint": "https://s3.example", "s3_bucket": "evidence"}
    province = Settings(folder=folder, mode="production", **bucket)  # type: ignore[arg-type]
    require_production(province, read_deployment(province))


def test_the_command_refuses_before_anything_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`fengni serve` ends with the status of wrong settings, and the doctor says the same."""
    write(folder, {"development_keys": True})
    monkeypatch.setenv("FENGNI_MODE", "production")
    assert run(["serve", str(folder)]) == 64
    assert "development_keys" in capsys.readouterr().err
    production = Settings(folder=folder, mode="production")
    _, told = _check_settings(production, read_deployment(production))
    assert (told.name, told.answer) == ("settings.development", Answer.FAIL)


def test_the_kinds_of_parties_are_those_of_the_file(folder: Path) -> None:
    """What the tests write is what the deployment file is."""
    [read] = read_deployment(Settings(folder=folder)).organs
    assert read.witnesses == (WitnessSettings(name="w1", url="https://w1.example"),)
    assert read.authorities[0] == AuthoritySettings(
        name="one", url="https://one.example", root_files=("keys/one.der",)
    )
