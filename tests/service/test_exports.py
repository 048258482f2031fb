"""Exports: stated, made in the background, checked by the verifier that strangers use."""

import io
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from litestar.testing import TestClient

from evidence.keyring import Registrar
from evidence.known_keys import KnownKeys, KnownLog
from evidence.report import Outcome
from evidence.tlog.policy import LogLine, Policy
from evidence.verify import verify_package
from service.key_files import log_signer
from tests.service.deployment_maker import AUDIENCE, Made, bearer
from tests.service.test_captures import custody, get, seal

Client = TestClient[Any]


def ask(client: Client, made: Made, *captures: str, organ: str = "county-a") -> httpx.Response:
    """Ask for an export as an organ's officer."""
    return client.post(
        "/v1/exports", json={"captures": list(captures)}, headers=bearer(made.tokens[organ])
    )


def fetch(client: Client, made: Made, location: str) -> bytes:
    """Wait for a package and return it."""
    for _ in range(200):
        answer = get(client, made, f"{location}/package")
        if answer.status_code == 200:
            return answer.content
        assert (answer.status_code, answer.json()["code"]) == (409, "export_pending")
        assert int(answer.headers["retry-after"]) > 0
        time.sleep(0.05)
    raise AssertionError("no package in ten seconds")


def known_keys(made: Made) -> KnownKeys:
    """What a stranger would pin for county-a."""
    organ = made.deployment.organs[0]
    keys = log_signer(made.settings, organ.log).verifier_keys
    policy = Policy(
        logs=tuple(LogLine(key=key) for key in keys), witnesses={}, groups=(), quorum="none"
    )
    origin = organ.log.origin
    return KnownKeys(
        sha256="00" * 32,
        version=1,
        audience=AUDIENCE,
        expires=datetime.now(UTC) + timedelta(days=1),
        root_threshold=1,
        root_keys=(),
        registrars=(
            Registrar(organ="county-a", public_key=made.parties["county-a"].registrar.public_key),
        ),
        logs={origin: KnownLog(origin=origin, keys=keys, ml_dsa_from=None, policy=policy)},
        tsa_roots=(),
    )


def test_a_package_holds_before_a_stranger(client: Client, made: Made) -> None:
    """Nothing in it was changed; what is missing (a time-stamp) is named."""
    capture = seal(client, made)
    asked = ask(client, made, capture)
    assert (asked.status_code, asked.headers["location"]) == (
        201,
        f"/v1/exports/{asked.json()['id']}",
    )
    package = fetch(client, made, asked.headers["location"])
    report = verify_package(io.BytesIO(package), known_keys(made), datetime.now(UTC))
    open_checks = {check.name for check in report.checks if check.outcome is not Outcome.PASS}
    assert open_checks == {
        "time.checkpoint",
        "time.signature",
        "time.not_before",
        "session.completeness",
    }
    assert [one.id for one in report.captures] == [capture]


def test_an_export_is_a_custody_event_of_each_capture(client: Client, made: Made) -> None:
    """Both captures say so, also if nobody ever fetches the package."""
    captures = [seal(client, made, b"one"), seal(client, made, b"two")]
    ask(client, made, *captures, captures[0])
    assert [custody(client, made, one) for one in captures] == [["exported"], ["exported"]]


def test_another_organ_sees_no_export(client: Client, made: Made) -> None:
    """Neither its state nor its package, nor can it export the capture."""
    capture = seal(client, made)
    location = ask(client, made, capture).headers["location"]
    codes = [
        get(client, made, location, "county-b").json()["code"],
        get(client, made, f"{location}/package", "county-b").json()["code"],
        ask(client, made, capture, organ="county-b").json()["code"],
    ]
    assert codes == ["export_unknown", "export_unknown", "capture_unknown"]


def test_what_is_not_stored_is_not_exported(client: Client, made: Made) -> None:
    """An announced capture without content waits."""
    signed = made.parties["county-a"].capture()
    client.post(
        "/v1/captures",
        json={"statements": []},
        headers=bearer(made.tokens["county-a"]),
    )
    assert ask(client, made, signed.id).json()["code"] == "capture_unknown"
