"""Killed between any two steps of sealing and of disposal: the next start ends in one state."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from service.app import create_app
from service.captures.workflow import Ingest
from service.deployment_file import Places
from service.fsck import check_logs
from service.retention.disposing import Disposing
from storage.keys import KeyStore
from storage.keys.stores import FileKeys
from storage.objects.local import LocalObjects
from tests.crash.walker import DIED, arm, until
from tests.service import retention_maker
from tests.service.deployment_maker import PHOTO, Made, wire
from tests.service.retention_maker import Clock, ask, bytes_below, clocked, code_of, dispose, make
from tests.service.test_captures import get
from tests.service.test_s3_service import stated

SEALING: dict[str, tuple[object, str, Callable[..., bool]]] = {
    "no key yet": (KeyStore, "provide_content", lambda *_: True),
    "a key and nothing sealed": (
        LocalObjects,
        "put_once",
        lambda _store, staged, **_: staged.key.startswith("sealed-"),
    ),
    "sealed and not stated": (Ingest, "_state", lambda *_: True),
}
DISPOSAL: dict[str, tuple[object, str, Callable[..., bool]]] = {
    "approved and not begun": (Disposing, "_begin", lambda *_: True),
    "begun and the key is there": (Disposing, "_destroy_key", lambda *_: True),
    "the key is going": (FileKeys, "scrub", lambda *_: True),
    "the key is gone and the object is there": (Disposing, "_remove_object", lambda *_: True),
    "the object is gone and the copies are there": (Disposing, "_remove_copies", lambda *_: True),
    "everything is gone and nothing says so": (Disposing, "_state", lambda *_: True),
}


@dataclass(frozen=True, kw_only=True)
class Course:
    """One capture's course in a process that will be killed.

    Attributes:
        made: the deployment.
        signed: the capture's statement in its wire form.
        capture: its id.
        ahead_days: how far the clock is ahead.
    """

    made: Made
    signed: dict[str, object]
    capture: str
    ahead_days: int = 0


def run(course: Course, step: str) -> None:
    """Go on until the step is reached, and die there."""
    arm(*{**SEALING, **DISPOSAL}[step])
    with pytest.MonkeyPatch.context() as patch, clocked(patch) as clock:
        clock.ahead = timedelta(days=course.ahead_days)
        with TestClient(create_app(course.made.settings)) as client:
            go(client, course)
    os._exit(0)  # the step was never reached


def go(client: TestClient[Any], course: Course) -> None:
    """Announce and send; with a clock that is ahead, dispose. May be repeated."""
    made, path = course.made, f"/v1/captures/{course.capture}"
    assert ask(client, made, "clerk", "POST", "/v1/captures", json=course.signed).is_success
    sent = ask(client, made, "clerk", "PUT", f"{path}/content", content=PHOTO)
    assert sent.status_code in {200, 201, 410}
    until(lambda: state_of(client, course) in {"stored", "disposed"})
    if not course.ahead_days:
        return
    standing = ask(client, made, "clerk", "GET", f"{path}/retention").json()
    if standing["request"] is None:
        dispose(client, made, course.capture)
    until(lambda: state_of(client, course) == "disposed")


def state_of(client: TestClient[Any], course: Course) -> str:
    """How far the content has come."""
    shown = ask(client, course.made, "clerk", "GET", f"/v1/captures/{course.capture}")
    return str(shown.json()["content"]["state"])


def killed(course: Course, step: str) -> None:
    """Let a process go until it dies at a step."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.test_disposal_kill"])
    child = context.Process(target=run, args=(course, step))
    child.start()
    child.join(120)
    assert child.exitcode == DIED


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A deployment with classes that takes the work of the dead over soon."""
    return make(tmp_path / "deployment", scrub_every_s=0)  # its report is an object, too


@pytest.fixture
def course(made: Made) -> Course:
    """The course of one photo."""
    signed = made.parties["county-a"].capture()
    party = made.parties["county-a"]
    body = retention_maker.msgspec.json.decode(signed.raw)["body"]
    signed = party.sign("capture", {**body, "mode": "automated"})
    return Course(made=replace(made, parties={}), signed=wire(signed), capture=signed.id)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A clock that goes by what the test wants."""
    with clocked(monkeypatch) as set_clock:
        yield set_clock


@pytest.mark.parametrize("step", SEALING)
def test_sealing_that_was_killed_leaves_one_sealed_object(
    made: Made, course: Course, step: str, clock: Clock
) -> None:
    """The sender who repeats finds it done once; nothing lies about in the clear."""
    del clock
    killed(course, step)
    with TestClient(create_app(made.settings)) as client:
        go(client, course)
        content = ask(client, made, "head", "GET", f"/v1/captures/{course.capture}/content").content
    places = Places(made.settings.folder)
    assert content == PHOTO
    assert len(list(LocalObjects(places.objects).names())) == 1
    assert list((places.staging / "waiting").iterdir()) == []
    assert len(stated(made, "stored")) == 1
    assert PHOTO[4:-2] not in bytes_below(made)


@pytest.mark.parametrize("step", DISPOSAL)
def test_a_disposal_that_was_killed_ends_in_the_same_state(
    made: Made, course: Course, step: str, clock: Clock
) -> None:
    """One certificate, no key, no object, whichever step the process died at."""
    with TestClient(create_app(made.settings)) as client:
        go(client, course)
    later = Course(made=course.made, signed=course.signed, capture=course.capture, ahead_days=31)
    killed(later, step)
    clock.ahead = timedelta(days=31)
    with TestClient(create_app(made.settings)) as client:
        until(lambda: state_of(client, later) == "disposed")
        path = f"/v1/captures/{course.capture}"
        gone = ask(client, made, "head", "GET", f"{path}/content")
        made.tokens["county-a"] = made.tokens["head@county-a"]
        about = get(client, made, f"{path}/statements").json()["items"]
        kinds = Counter(one["kind"] for one in about)
    assert code_of(gone) == (410, "disposed")
    assert (kinds["disposed"], kinds["custody"]) == (1, 4)  # asked, approved twice, begun
    [certificate] = stated(made, "disposed")
    places = Places(made.settings.folder)
    keys = FileKeys(places.text_keys)
    [note] = keys.destroyed()
    assert list(keys.content_rows()) == []
    keys.close()
    assert note.name == f"content {course.capture}"
    assert str(certificate.body["request"]) in note.reason
    assert list(LocalObjects(places.objects).names()) == []
    assert PHOTO[4:-2] not in bytes_below(made)
    assert [finding for log in check_logs(made.settings) for finding in log.findings] == []
