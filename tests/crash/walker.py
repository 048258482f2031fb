"""The process that is killed between two steps of the service: it walks one capture to its package.

Run by `test_service_steps` in a child of a fork server, so that a step costs no imports. What it
dies of is `os._exit`: nothing is flushed, closed or told, as in a kill.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from litestar.testing import TestClient

from evidence.statement import SignedStatement
from service.app import create_app
from service.captures import adopting, uploads
from service.captures.arrivals import Arrivals
from service.captures.inspection import OUTPUT_PREFIX, Inspecting
from service.captures.workflow import Ingest
from service.exports import workflow as exports
from service.settings import Settings
from storage.objects.local import LocalObjects
from tests.service.deployment_maker import bearer, wire

DIED = 77
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Walk:
    """One capture's way.

    Attributes:
        settings: of the deployment.
        token: of an officer with every scope.
        signed: the capture's statement.
        content: its bytes.
        wrong: other bytes, which are sent before.
    """

    settings: Settings
    token: str
    signed: SignedStatement
    content: bytes
    wrong: tuple[bytes, ...] = ()


STEPS: dict[str, tuple[object, str, Callable[..., bool]]] = {
    "staged and not noted": (Arrivals, "_write", lambda *_: True),
    "noted and not yet an object": (Ingest, "_keep", lambda *_: True),
    "an object and not stated": (Ingest, "_state", lambda *_: True),
    "stated and not inspected": (Inspecting, "_look", lambda *_: True),
    "output staged and no object": (
        LocalObjects,
        "put_once",
        lambda _store, staged: staged.key.startswith(OUTPUT_PREFIX),
    ),
    "inspected and not stated": (Inspecting, "_statement", lambda *_: True),
    "export stated and not written": (exports.Exporting, "_write", lambda *_: True),
    "package written and not named": (
        Path,
        "replace",
        lambda path, _target: path.suffix == ".part",
    ),
    "package named and not noted": (exports, "mark_ready", lambda *_, **__: True),
}
"""The call before which the process dies, by what it leaves; and whether this call is the one."""

ASIDE: tuple[object, str, Callable[..., bool]] = (uploads, "log_custody", lambda *_: True)
"""Dies when wrong bytes lie aside and nothing says so."""

ADOPTING: tuple[object, str, Callable[..., bool]] = (adopting, "log_custody", lambda *_, **__: True)
"""Dies where a leftover is adopted, before that is stated."""


def die(walk: Walk, step: str) -> None:
    """Walk until the step is reached, and die there."""
    arm(*{**STEPS, "aside and not stated": ASIDE, "adopted and not stated": ADOPTING}[step])
    with TestClient(create_app(walk.settings)) as client:
        go(client, walk)
    os._exit(0)  # the step was never reached


def arm(owner: object, name: str, is_it: Callable[..., bool]) -> None:
    """Let the process die instead of making a call."""
    real: Callable[..., Any] = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the real one takes
        if is_it(*args, **kwargs):
            os._exit(DIED)
        return real(*args, **kwargs)

    setattr(owner, name, dying)


def go(client: TestClient[Any], walk: Walk) -> bytes:
    """Announce, send, wait for the inspection, export; returns the package. May be repeated."""
    headers = bearer(walk.token)
    path = f"/v1/captures/{walk.signed.id}"

    def ask(method: str, path: str, **body: Any) -> httpx.Response:  # noqa: ANN401 - of httpx
        return client.request(method, path, headers=headers, **body)

    assert ask("POST", "/v1/captures", json=wire(walk.signed)).status_code == 200
    for wrong in walk.wrong:
        assert ask("PUT", f"{path}/content", content=wrong).status_code == 422
    assert ask("PUT", f"{path}/content", content=walk.content).status_code in {200, 201}
    until(lambda: ask("GET", path).json()["inspections"] != [])
    export = ask("POST", "/v1/exports", json={"captures": [walk.signed.id]})
    assert export.status_code == 201
    package = f"{export.headers['location']}/package"
    until(lambda: ask("GET", package).status_code == 200)
    return ask("GET", package).content


def until(done: Callable[[], bool]) -> None:
    """Wait for what the workers do."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
