"""Webhooks over real HTTP on loopback; the judge of signatures is the standardwebhooks package."""

import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from litestar.testing import TestClient
from standardwebhooks import Webhook, WebhookVerificationError

from service.app import create_app
from service.cli import run
from service.deployment_file import DEPLOYMENT_FILE
from service.law.refusals import GivenUp
from service.webhooks.sending import SecretMalformed, Target, read_keys, send, signed_headers
from storage.errors import Unavailable
from tests.service.deployment_maker import Made
from tests.service.test_captures import announce, seal
from tests.service.test_captures import send as send_content
from tests.service.test_exports import ask, fetch

AT = datetime(2026, 11, 26, 9, tzinfo=UTC)
KEYS = [os.urandom(32), os.urandom(32)]
SECRETS = ["whsec_" + base64.b64encode(key).decode() for key in KEYS]
ALL = ["capture.stored", "capture.quarantined", "export.ready", "log.alarm"]
PATIENCE_S = 60


class Subscriber(ThreadingHTTPServer):
    """Answers with the statuses that it was given, then 204, and keeps what it was sent."""

    def __init__(self) -> None:
        """Listen on a free port of loopback."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}/hook?x=1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Keep and answer."""
        subscriber = cast("Subscriber", self.server)
        body = self.rfile.read(int(self.headers["content-length"]))
        subscriber.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
        status = subscriber.answers.pop(0) if subscriber.answers else 204
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("location", subscriber.url)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""
        del format, args


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    """A listening one."""
    server = Subscriber()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def telling(made: Made, subscriber: Subscriber) -> Iterator[TestClient[Any]]:
    """A running deployment whose first organ has a subscriber."""
    path = made.settings.folder / DEPLOYMENT_FILE
    deployment = json.loads(path.read_bytes())
    (made.settings.folder / "hook.key").write_text("\n".join(SECRETS))
    deployment["organs"][0]["webhooks"] = [
        {"name": "court", "url": subscriber.url, "secret_file": "hook.key", "events": ALL}
    ]
    path.write_text(json.dumps(deployment))
    settings = msgspec.structs.replace(made.settings, webhooks_private=True)
    with TestClient(create_app(settings)) as client:
        yield client


def wait_for(subscriber: Subscriber, count: int) -> list[dict[str, Any]]:
    """What was told, verified by the judge."""
    deadline = time.monotonic() + PATIENCE_S
    while len(subscriber.got) < count:
        assert time.monotonic() < deadline, subscriber.got
        time.sleep(0.05)
    judge = Webhook(SECRETS[0])
    return [judge.verify(body, headers) for headers, body in subscriber.got]


def test_subscribers_are_told_by_ids_alone(
    telling: TestClient[Any], made: Made, subscriber: Subscriber
) -> None:
    """Stored, quarantined and exported: each verifies, and names no person and no place."""
    stored = seal(telling, made, b"one")
    [told] = wait_for(subscriber, 1)
    assert told["type"] == "capture.stored"
    assert set(told["data"]) == {"capture", "index", "log", "statement"}
    assert told["data"]["capture"] == stored
    other = made.parties["county-a"].capture(b"four")
    announce(telling, made, other)
    assert send_content(telling, made, other.id, b"4our").status_code == 422
    told = wait_for(subscriber, 2)[-1]
    assert (told["type"], told["data"]["capture"]) == ("capture.quarantined", other.id)
    fetch(telling, made, ask(telling, made, stored).headers["location"])
    told = wait_for(subscriber, 3)[-1]
    assert told["type"] == "export.ready"
    assert set(told["data"]) == {"export", "sha256", "size_bytes"}


def test_a_subscriber_who_is_away_is_told_later_under_the_same_id(
    telling: TestClient[Any],
    made: Made,
    subscriber: Subscriber,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A redirect is no yes and is not followed; the state is shown, and a replay repeats the id."""
    subscriber.answers = [500, 307]
    seal(telling, made, b"one")
    wait_for(subscriber, 3)
    ids = {headers["webhook-id"] for headers, _ in subscriber.got}
    assert len(ids) == 1
    folder = str(made.settings.folder)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        capsys.readouterr()
        assert run(["webhook", "list", folder, "--json"]) == 0
        [shown] = json.loads(capsys.readouterr().out)["deliveries"]
        if shown["state"] == "delivered":
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert (shown["answer"], shown["webhook"]) == (204, "court")
    assert run(["webhook", "replay", shown["id"], folder]) == 0
    wait_for(subscriber, 4)
    assert {headers["webhook-id"] for headers, _ in subscriber.got} == ids
    assert run(["webhook", "replay", "0" * 36, folder]) == 1


def test_the_judge_takes_every_key_of_the_file_and_no_other() -> None:
    """Keys are changed without a gap: the old and the new one both sign."""
    body = b'{"type":"capture.stored"}'
    headers = signed_headers("id", body, read_keys("\n".join(SECRETS)), datetime.now(UTC))
    for secret in SECRETS:
        assert Webhook(secret).verify(body, headers) == {"type": "capture.stored"}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRETS[0]).verify(body + b" ", headers)
    stranger = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    with pytest.raises(WebhookVerificationError):
        Webhook(stranger).verify(body, headers)
    old = signed_headers("id", body, KEYS, datetime.now(UTC) - timedelta(hours=1))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRETS[0]).verify(body, old)


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of the specification's own reference implementations."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        [key],
        datetime.fromtimestamp(1614265330, UTC),
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://10.0.0.7/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "http://93.184.215.14/",
    ],
)
def test_nothing_is_sent_inside_or_in_the_clear(url: str) -> None:
    """Loopback, private, link-local and mapped addresses, and plain http, are refused at once."""
    with pytest.raises(GivenUp):
        send(Target(url=url, keys=(KEYS[0],), private=False), "id", b"{}", AT)


def test_an_address_that_nobody_listens_on_is_tried_again(subscriber: Subscriber) -> None:
    """Silence is no verdict."""
    url = subscriber.url
    subscriber.shutdown()
    subscriber.server_close()
    with pytest.raises(Unavailable):
        send(Target(url=url, keys=(KEYS[0],), private=True), "id", b"{}", AT)


@pytest.mark.parametrize("text", ["", "secret", "whsec_!!", "whsec_c2hvcnQ="])
def test_a_key_file_without_a_key_is_refused(text: str, tmp_path: Path) -> None:
    """Nothing goes out unsigned, or signed with what anybody could guess."""
    del tmp_path
    with pytest.raises(SecretMalformed):
        read_keys(text)
