"""What lies in deploy/ fits the program and its tools, as far as no container engine is needed."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from litestar.testing import TestClient
from typer.main import get_command

from service.app import create_app
from service.cli import app
from service.settings import PREFIX, Settings, read_settings
from service.setup.proxy import IN_CONTAINERS, make_local_authority, nginx_configuration
from service.setup.weed import PLAIN_ACTIONS, SEALED, SYNCS
from tests.service.deployment_maker import make_deployment
from tests.tools import ROOT, require_tool

DEPLOY = ROOT / "deploy"
VARIABLE = re.compile(rf"{PREFIX}[A-Z0-9_]+")
NOT_A_SETTING = {f"{PREFIX}CLIENT_CONFIG"}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MOST_EXPOSED = 25
"""Of 100, by systemd's own reckoning; a unit that hardens nothing has 96."""


def compose() -> dict[str, Any]:
    """The compose file, merged as YAML merges."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def words(service: dict[str, Any]) -> list[str]:
    """A service's command."""
    return [str(one) for one in service.get("command", [])]


def commands() -> set[str]:
    """The commands of `fengni`."""
    return set(get_command(app).commands)  # type: ignore[attr-defined]


def test_the_compose_file_is_one() -> None:
    """It fits the Compose Specification's schema, as an independent tool has it."""
    checker = require_tool("check-jsonschema")
    command = [checker, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_checker_refuses_another_file(tmp_path: Path) -> None:
    """A misspelt member is found, so the check above can fail."""
    checker = require_tool("check-jsonschema")
    wrong = (DEPLOY / "compose.yaml").read_text("utf-8").replace("read_only:", "read_olny:")
    (tmp_path / "compose.yaml").write_text(wrong)
    command = [checker, "--builtin-schema", "vendor.compose-spec", tmp_path / "compose.yaml"]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 1


def test_the_compose_file_has_the_whole_topology() -> None:
    """Two databases, the store, two web nodes, two workers, a witness and a proxy with TLS."""
    services = compose()["services"]
    parts = {"evidence-db", "heads-db", "store", "web-1", "web-2", "worker-1", "worker-2"}
    assert parts | {"witness", "proxy"} <= set(services)
    assert services["proxy"]["ports"] == ["443:8443"]
    published = {name for name, one in services.items() if "ports" in one}
    assert published == {"proxy"}
    assert compose()["networks"]["inside"] == {"internal": True}


def test_our_containers_can_write_nothing_but_their_volume() -> None:
    """Read-only root, no rights, an account without a name in the system."""
    for name, service in compose()["services"].items():
        assert service.get("privileged") is None
        if service.get("image", "").startswith("fengni:"):
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["user"] == "10001:10001", name
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    assert "USER 10001:10001" in text
    assert "--require-hashes --no-deps -r requirements-server.lock" in text


def test_the_compose_file_calls_commands_that_exist() -> None:
    """Also every file that it mounts is in the repository, or made by a script that is."""
    made = ("./tls/", "./store-config/", "./registrar", "./authorities", "./secrets/")
    known = commands()
    for name, service in compose()["services"].items():
        if service.get("image", "").startswith("fengni:") and "entrypoint" not in service:
            command = words(service)[0]
            # the worker comes with the engine; from then on the command is demanded
            assert command in known | ({"worker"} - known), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./") and not source.startswith(made):
                assert (DEPLOY / source).exists(), source
    for secret in compose()["secrets"].values():
        assert secret["file"].startswith(made)


def variables() -> Iterator[tuple[str, str]]:
    """Every variable of ours that a file of deploy/ names, but what prose says."""
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file() and path.suffix not in {".lock", ".md"}:
            for found in VARIABLE.findall(path.read_text("utf-8")):
                yield path.relative_to(DEPLOY).as_posix(), found


def test_every_variable_is_a_setting() -> None:
    """A misspelt one would stop the start on the operator's machine."""
    known = {PREFIX + name.upper() for name in Settings.__struct_fields__} | NOT_A_SETTING
    found = set(variables())
    assert {(path, name) for path, name in found if name not in known} == set()
    assert len({name for _, name in found}) > 10


def test_the_example_of_settings_is_read(tmp_path: Path) -> None:
    """Each line of the example is a well-formed value of its setting."""
    lines = (DEPLOY / "fengni.env.example").read_text("utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = read_settings({**given, f"{PREFIX}FOLDER": str(tmp_path)})
    assert settings.objects == "s3"
    assert msgspec.structs.asdict(settings)["heads_url"] is not None


def test_the_proxy_s_file_is_the_one_that_the_trial_runs() -> None:
    """The same text, with the containers' names."""
    assert (DEPLOY / "nginx.conf").read_text("utf-8") == nginx_configuration(IN_CONTAINERS)


@pytest.mark.parametrize("name", ["nginx.conf", "witness-proxy.conf"])
def test_nginx_takes_the_proxies_files(name: str, tmp_path: Path) -> None:
    """`nginx -t` with a certificate; the containers' names stand for loopback."""
    nginx = require_tool("nginx")
    make_local_authority(tmp_path, datetime.now(UTC))
    text = (DEPLOY / name).read_text("utf-8")
    text = re.sub(r"web-\d:", "127.0.0.1:", text).replace("/tmp", str(tmp_path))  # noqa: S108
    text = re.sub(r"/run/tls/\w+\.(pem|key)", lambda m: f"{tmp_path}/proxy.{m[1]}", text)
    (tmp_path / "nginx.conf").write_text(text)
    command = [nginx, "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", "stderr"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert tried.returncode == 0, tried.stderr


def test_the_proxy_streams_and_waits() -> None:
    """Neither direction is buffered, and a phone with bad signal is not cut off by the proxy."""
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    for line in ("proxy_request_buffering off;", "proxy_buffering off;", "access_log off;"):
        assert line in text
    seconds = int(re.findall(r"client_body_timeout (\d+)s", text)[0])
    assert seconds > Settings(folder=Path()).upload_idle_s
    limit = int(re.findall(r"client_max_body_size (\d+)g", text)[0])
    assert limit * 1024**3 >= Settings(folder=Path()).max_content_bytes


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify` says nothing, and its reckoning of what is exposed is low."""
    analyze = require_tool("systemd-analyze")
    text = re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit.read_text("utf-8"))
    copied = tmp_path / unit.name
    copied.write_text(text)
    verified = subprocess.run(
        [analyze, "verify", "--man=no", copied],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    about = [line for line in verified.stderr.splitlines() if unit.name in line]
    assert about == []
    rated = subprocess.run(
        [analyze, "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", copied],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert rated.returncode == 0, rated.stdout[-400:] + rated.stderr


def test_the_units_start_commands_that_exist() -> None:
    """`fengni-worker.service` waits for its command; the others have theirs."""
    known = commands()
    for unit in UNITS:
        [started] = re.findall(r"\nExecStart=/opt/fengni/bin/fengni (\w+)", unit.read_text())
        assert started in known | ({"worker"} - known), unit.name


def test_prometheus_takes_the_alerts() -> None:
    """Its own tool reads the rules."""
    promtool = require_tool("promtool")
    command = [promtool, "check", "rules", DEPLOY / "prometheus" / "fengni.rules.yml"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_watches_a_metric_that_there_is(tmp_path: Path) -> None:
    """Each name in an expression is one of /metrics, with the labels that it has there."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "fengni.rules.yml").read_text("utf-8"))
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    watched = {name for one in expressions for name in re.findall(r"\bfengni_\w+", one)}
    made = make_deployment(tmp_path)
    with TestClient(create_app(made.settings)) as client:
        shown = client.get("/metrics").text
    declared = dict(re.findall(r"^# TYPE (fengni_\w+) (\w+)$", shown, re.MULTILINE))
    series = {
        name + end
        for name, kind in declared.items()
        for end in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
    }
    assert watched - series == set()
    assert {"fengni_requests_total", "fengni_queued", "fengni_silent"} <= watched


def test_every_alert_leads_to_its_page() -> None:
    """What to do is a heading of the runbook."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "fengni.rules.yml").read_text("utf-8"))
    page = (ROOT / "docs" / "how-to" / "runbook.md").read_text("utf-8")
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("##")
    }
    for group in rules["groups"]:
        for rule in group["rules"]:
            place, _, heading = rule["annotations"]["action"].partition("#")
            assert (place, heading in headings) == ("docs/how-to/runbook.md", True), rule["alert"]


def run_script(name: str, folder: Path, *arguments: str) -> str:
    """Run a script of deploy/ in a folder; returns what it said."""
    require_tool("openssl")
    done = subprocess.run(
        ["bash", DEPLOY / name, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_local_authority_vouches_for_every_part(tmp_path: Path) -> None:
    """Each certificate verifies under ca.pem for its name; the authority's key is not kept."""
    said = run_script("local-ca.sh", tmp_path, "fengni.example", "192.0.2.7")
    assert "sha256 Fingerprint=" in said
    tls = tmp_path / "tls"
    command = ["openssl", "verify", "-CAfile", tls / "ca.pem", "-purpose", "sslserver"]
    names = {"proxy": "fengni.example", "store": "store", "evidence-db": "evidence-db"}
    for file, name in {**names, "heads-db": "heads-db", "witness": "witness"}.items():
        checked = subprocess.run(
            [*command, "-verify_hostname", name, tls / f"{file}.pem"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert checked.returncode == 0, checked.stderr
        assert (tls / f"{file}.key").stat().st_mode & 0o077 == 0
    assert not (tls / "ca.key").exists()


def test_the_store_s_configuration_is_the_hardened_one(tmp_path: Path) -> None:
    """The same sections, actions and demand for syncs as in the tests' own server."""
    run_script("seaweedfs/configure.sh", tmp_path, "store-config")
    folder = tmp_path / "store-config"
    sections = re.findall(
        r"^\[(.+)\]\nkey = \"[0-9a-f]{64}\"$", (folder / "security.toml").read_text(), re.MULTILINE
    )
    assert sections == list(SEALED)
    identities = json.loads((folder / "s3.json").read_text())["identities"]
    actions = {one["name"]: one["actions"] for one in identities}
    assert actions["service"] == list(PLAIN_ACTIONS)
    [given] = [one["credentials"][0] for one in identities if one["name"] == "service"]
    assert given["accessKey"] == (folder / "s3-access").read_text().strip()
    assert SYNCS in (DEPLOY / "compose.yaml").read_text("utf-8")


def test_the_passwords_are_of_the_roles(tmp_path: Path) -> None:
    """Libpq's files name the roles that the databases are made with."""
    run_script("secrets.sh", tmp_path)
    roles = (DEPLOY / "postgres" / "roles.sh").read_text("utf-8")
    for role in ("owner", "service"):
        line = (tmp_path / "secrets" / f"{role}-pgpass").read_text().strip()
        assert line.startswith(f"*:5432:*:fengni_{role}:")
        assert f"CREATE ROLE fengni_{role} LOGIN" in roles


def test_the_scripts_are_shell(tmp_path: Path) -> None:
    """Bash reads each of them."""
    assert shutil.which("bash")
    for script in sorted(DEPLOY.rglob("*.sh")):
        read = subprocess.run(["bash", "-n", script], capture_output=True, check=False, timeout=10)
        assert read.returncode == 0, read.stderr
    assert tmp_path.exists()
