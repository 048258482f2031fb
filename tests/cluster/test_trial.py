"""`fengni cluster --local`: it comes up, carries a photo through, and leaves nothing behind."""

import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from evidence.schema import format_time
from service.cli import app
from tests.cluster.cluster_process import (
    PROXY,
    SERVERS,
    ClusterProcess,
    cluster_folder,
    listens,
)
from tests.e2e.demo_process import is_alive
from tests.e2e.test_walk import stranger as bare_verifier
from tests.judges.test_stranger import stranger
from tests.tools import require_tool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
__all__ = ["stranger"]  # a fixture of the judges

Judge = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def package(cluster: ClusterProcess) -> Path:
    """The README's walk by a device that was enrolled for it: sealed, stamped, exported."""
    place = cluster.place
    key, request = place / "phone.pem", place / "request.json"
    made = cluster.run(
        "device", "keygen", "--holder", "phone-1", "--out", key, "--request", request
    )
    assert made.status == 0, made.err
    enrolled = cluster.run("device", "enrol", request, "--registrar", cluster.folder / "registrar")
    assert enrolled.status == 0, enrolled.err
    config = json.loads((cluster.folder / "client.json").read_text())
    config |= {"device_key_file": str(key), "journal_folder": str(place / "journal")}
    (place / "phone.json").write_text(json.dumps(config))
    photo = place / "pavement.jpg"
    shutil.copy(cluster.folder / "photos" / "stall-on-pavement.jpg", photo)
    options = ("--config", place / "phone.json")
    uploaded = cluster.run("upload", photo, "--json", "--wait", "time_stamped", *options)
    assert uploaded.status == 0, uploaded.err + cluster.logs()
    [capture] = uploaded.json()["captures"]
    assert capture["stage"] == "time_stamped"
    exported = cluster.run("export", capture["id"], "--out", place / "package.zip", *options)
    assert exported.status == 0, exported.err
    return place / "package.zip"


def test_it_says_how_long_it_took_and_that_it_is_for_trial(cluster: ClusterProcess) -> None:
    """Seconds, addresses and the warning stand in what it prints; every port answers."""
    said = " ".join(cluster.output().split())
    assert "the cluster is ready after" in said
    assert "FOR TRIAL ONLY" in said
    for port in cluster.kept["web_ports"].values():
        assert f"http://127.0.0.1:{port}" in said
    without_proxy = cluster.ports()[:-2]
    assert [port for port in without_proxy if not listens(port)] == []


def test_every_part_is_a_process_of_its_own(cluster: ClusterProcess) -> None:
    """Two database servers, the store, two authorities, a witness and a node; the store passes."""
    parts = [*SERVERS, "tsa", "tsa-2", "witness-1", "web-1"]
    assert len({cluster.pid_of(name) for name in parts}) == len(parts)
    ready = f"http://127.0.0.1:{cluster.kept['web_ports']['web-1']}/readyz"
    with urllib.request.urlopen(ready, timeout=20) as answer:
        told = json.load(answer)
    assert (told["status"], told["failed"]) == ("ready", [])


def test_the_readme_s_photo_passes_its_judges(
    cluster: ClusterProcess, package: Path, stranger: Judge
) -> None:
    """A bare environment, a verifier in another language and BagIt's own tool accept it."""
    report: Any = bare_verifier(cluster, package).json()
    [capture] = report["captures"]
    rungs = {rung["rung"] for rung in capture["ladder"] if rung["outcome"] == "pass"}
    assert report["outcome"] == "pass"
    assert {"signed", "logged", "witnessed", "time_stamped", "stored"} <= rungs
    judged = stranger(package, cluster.server / "known-keys.json", format_time(datetime.now(UTC)))
    assert judged.returncode == 0, judged.stdout
    with zipfile.ZipFile(package) as archive:
        archive.extractall(cluster.place / "bag")
    [bag] = (cluster.place / "bag").iterdir()
    validated = subprocess.run(
        [require_tool("bagit.py"), "--validate", bag], check=False, capture_output=True, timeout=60
    )
    assert validated.returncode == 0, validated.stderr


def test_the_doctor_finds_nothing_wrong(cluster: ClusterProcess, package: Path) -> None:
    """Databases on two servers, bucket, witness and authorities pass beside the running nodes."""
    assert package.exists()
    examined = cluster.operate("doctor", "--json")
    answers = {one["name"]: one["answer"] for one in examined.json()["checks"]}
    assert set(answers.values()) == {"pass", "note"}, examined.out
    assert answers["objects.delete_refused"] == "pass"
    assert answers["log.head"] == "pass"


def test_a_phone_that_trusts_the_authority_comes_in_by_tls(cluster: ClusterProcess) -> None:
    """The certificate is the local authority's; what is for the operator is not answered there."""
    require_tool("nginx")
    port = cluster.kept["proxy_ports"][0]
    trusting = ssl.create_default_context(cafile=str(cluster.folder / PROXY / "ca.pem"))
    with urllib.request.urlopen(
        f"https://localhost:{port}/healthz", context=trusting, timeout=20
    ) as answer:
        assert json.load(answer) == {"status": "alive"}
    for closed in ("metrics", "readyz"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(
                f"https://localhost:{port}/{closed}", context=trusting, timeout=20
            )
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        urllib.request.urlopen(f"https://localhost:{port}/healthz", timeout=20)


def test_production_does_not_start_on_it(cluster: ClusterProcess) -> None:
    """Nothing of a trial can be mistaken for more."""
    cluster.environment["FENGNI_MODE"] = "production"
    try:
        refused = cluster.operate("serve")
    finally:
        del cluster.environment["FENGNI_MODE"]
    assert refused.status == 64
    assert "made for development" in refused.err


def test_it_ends_whole_comes_back_whole_and_dies_whole() -> None:
    """A closed pipe ends it; what was sealed is there afterwards; kill -9 takes all along."""
    for tool in ("openssl", "weed"):
        require_tool(tool)
    with cluster_folder() as place:
        own = ClusterProcess(place)
        own.start()
        photo = place / "pavement.jpg"
        shutil.copy(own.folder / "photos" / "stall-on-pavement.jpg", photo)
        first = own.run("upload", photo, "--json")
        assert first.status == 0, first.err
        assert own.hang_up() == 0
        assert [port for port in own.ports() if listens(port)] == []
        own.start()
        assert own.run("upload", photo, "--json").ids() == first.ids()
        known = own.children()
        own.kill()  # waits until its children are gone
        deadline = time.monotonic() + 30
        while any(listens(port) for port in own.ports()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert [pid for pid in known if is_alive(pid)] == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """It is neither filled nor emptied."""
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "thesis.txt").write_text("mine")
    own = ClusterProcess(tmp_path)
    own.launch()
    assert own.process.wait(60) == 1
    assert own.process.stdin is not None
    own.process.stdin.close()
    assert "holds something that is no cluster" in " ".join(own.output().split())
    assert [one.name for one in own.folder.iterdir()] == ["thesis.txt"]


def test_two_web_nodes_and_two_workers_carry_a_photo_through() -> None:
    """The whole topology. Demanded from the moment on at which there is a `fengni worker`.

    Until then one web node does the work of both; this test does not skip, it says so by passing
    on the one fact that makes it so.
    """
    if "worker" not in get_command(app).commands:  # type: ignore[attr-defined]
        return
    with cluster_folder() as place:
        whole = ClusterProcess(place, web=2, workers=2)
        whole.start()
        try:
            for name in ("web-1", "web-2", "worker-1", "worker-2"):
                assert is_alive(whole.pid_of(name))
            photo = place / "pavement.jpg"
            shutil.copy(whole.folder / "photos" / "stall-on-pavement.jpg", photo)
            sealed = whole.run("upload", photo, "--json", "--wait", "time_stamped")
            assert sealed.status == 0, sealed.err + whole.logs()
            exported = whole.run("export", sealed.ids()[0], "--out", place / "package.zip")
            assert exported.status == 0, exported.err
            known = whole.server / "known-keys.json"
            verified = whole.run("verify", place / "package.zip", "--known-keys", known)
            assert verified.status == 0, verified.out
            for node in ("web-1", "web-2"):
                ready = f"http://127.0.0.1:{whole.kept['web_ports'][node]}/readyz"
                with urllib.request.urlopen(ready, timeout=20) as answer:
                    assert json.load(answer)["failed"] == []
        finally:
            whole.stop()
