"""A deployment with classes of retention, people with their own tokens, and a clock that is set."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from service import context
from service.access.tokens import issue_token
from service.app import create_app
from service.deployment_file import Places, database_url
from service.law.permissions import Scope
from service.retention_classes import LegalSource, RetentionClass
from storage.db.engine import Database
from tests.service.deployment_maker import Made, bearer, make_deployment, wire

Client = TestClient[Any]
LAW = "公共安全视频图像信息系统管理条例"
VIDEO = RetentionClass(
    name="public-video",
    source=LegalSource(law=LAW, article="17", read_on="2026-11-26"),
    keep_days=30,
    intake_lock_days=2,
    case_lock_days=365,
    seals=True,
    delete_when_met=True,
)
OPEN = RetentionClass(
    name="inspection",
    source=LegalSource(law="机关档案管理规定", article="0", read_on="2026-11-26"),
    keep_days=10,
    intake_lock_days=1,
    case_lock_days=100,
)
PEOPLE = ("clerk", "head", "jurist", "archivist")


class Clock:
    """Now, moved by what a test wants."""

    ahead = timedelta()

    def __call__(self) -> datetime:
        """The time of this deployment."""
        return datetime.now(UTC) + self.ahead


def make(folder: Path, **settings: Any) -> Made:  # noqa: ANN401  of the maker
    """What is captured unattended is sealed, what is imported is not, the rest has no class."""
    made = make_deployment(folder, **settings)
    organs = tuple(
        msgspec.structs.replace(one, retention={"automated": VIDEO.name, "import": OPEN.name})
        for one in made.deployment.organs
    )
    made.deployment = msgspec.structs.replace(
        made.deployment, organs=organs, retention_classes=(VIDEO, OPEN)
    )
    (folder / "deployment.json").write_bytes(msgspec.json.encode(made.deployment))
    give_tokens(made)
    return made


def give_tokens(made: Made) -> None:
    """Everybody of `PEOPLE` may do everything, each under a name of its own."""
    db = Database(database_url(made.settings, made.deployment))
    with db.write() as connection:
        for organ in ("county-a", "county-b"):
            for name in PEOPLE:
                made.tokens[f"{name}@{organ}"] = issue_token(
                    connection,
                    organ=organ,
                    holder=name,
                    scopes=Scope,
                    lifetime_s=10 * 365 * 24 * 3600,
                    at=datetime.now(UTC),
                ).secret
    db.close()


@contextmanager
def clocked(monkeypatch: pytest.MonkeyPatch) -> Generator[Clock]:
    """Let every deployment that is opened meanwhile go by a clock of ours."""
    clock = Clock()
    with monkeypatch.context() as patch:
        defaults = context.open_context.__kwdefaults__
        assert defaults is not None
        patch.setitem(defaults, "clock", clock)
        yield clock


def serve(made: Made) -> Client:
    """A client of the running application."""
    return TestClient(create_app(made.settings))


def ask(
    client: Client,
    made: Made,
    who: str,
    method: str,
    path: str,
    **body: Any,  # noqa: ANN401
) -> httpx.Response:
    """A request of one person of county-a, or of `name@organ`."""
    token = made.tokens[who if "@" in who else f"{who}@county-a"]
    return client.request(method, path, headers=bearer(token), **body)


def sealed_capture(
    client: Client, made: Made, content: bytes, mode: str = "automated", kind: str = "image/jpeg"
) -> str:
    """Announce, send and wait; returns the capture's id."""
    party = made.parties["county-a"]
    plain = party.capture(content, media_type=kind)
    body = msgspec.json.decode(plain.raw)["body"]
    signed = party.sign("capture", {**body, "mode": mode})
    path = f"/v1/captures/{signed.id}"
    assert ask(client, made, "clerk", "POST", "/v1/captures", json=wire(signed)).status_code == 200
    put = ask(client, made, "clerk", "PUT", f"{path}/content", content=content)
    assert put.status_code == 201
    wait_for(client, made, signed.id, "stored")
    return signed.id


def wait_for(client: Client, made: Made, capture: str, state: str) -> None:
    """Wait until the content has come so far."""
    shown: dict[str, Any] = {}
    for _ in range(600):
        shown = ask(client, made, "clerk", "GET", f"/v1/captures/{capture}").json()
        if shown["content"]["state"] == state:
            return
        time.sleep(0.05)
    raise AssertionError(f"the content is not {state}: {shown['work']}")


def keep(client: Client, made: Made, who: str, capture: str, **step: Any) -> httpx.Response:  # noqa: ANN401
    """A step that keeps content."""
    given = {"reason": "case_opened", "reference": "case-7", **step}
    return ask(client, made, who, "POST", f"/v1/captures/{capture}/retention", json=given)


def request(client: Client, made: Made, who: str, capture: str, **more: Any) -> httpx.Response:  # noqa: ANN401
    """A request for disposal."""
    given = {"reason": "purpose_met", **more}
    return ask(client, made, who, "POST", f"/v1/captures/{capture}/disposal", json=given)


def approve(
    client: Client, made: Made, who: str, capture: str, asked: str | None
) -> httpx.Response:
    """An approval."""
    given = {"request": asked, "reason": "checked"}
    path = f"/v1/captures/{capture}/disposal/approvals"
    return ask(client, made, who, "POST", path, json=given)


def dispose(client: Client, made: Made, capture: str, **more: Any) -> None:  # noqa: ANN401
    """Request, approve twice, and wait."""
    asked = request(client, made, "clerk", capture, **more)
    assert asked.status_code == 200, asked.text
    for who in ("head", "jurist"):
        done = approve(client, made, who, capture, asked.json()["request"])
        assert done.status_code == 200, done.text
    wait_for(client, made, capture, "disposed")


def code_of(response: httpx.Response) -> tuple[int, str]:
    """Status and problem code."""
    document: Mapping[str, str] = response.json()
    return response.status_code, document.get("code", "")


def bytes_below(made: Made) -> bytes:
    """Every byte of every file of the deployment."""
    folder = Places(made.settings.folder).folder
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
