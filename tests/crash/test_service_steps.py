"""Killed between any two steps of the service: the next start finishes the work, once."""

import io
import multiprocessing
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from evidence.report import Outcome
from evidence.verify import verify_package
from service.app import create_app
from service.deployment_file import Places
from service.fsck import check_logs
from storage.objects.local import LocalObjects
from storage.staging.folder import StagingFolder
from tests.crash import walker
from tests.crash.walker import DIED, STEPS, Walk, go, until
from tests.sampling import sampled
from tests.service.deployment_maker import PHOTO, Made, make_deployment
from tests.service.test_captures import announce, custody, get, send
from tests.service.test_exports import known_keys

WRONG = (b"\xff" * len(PHOTO), b"\xfe" * len(PHOTO))
Start = Callable[[], TestClient[Any]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A deployment that inspects, and takes the work of the dead over soon."""
    return make_deployment(tmp_path / "deployment", inspect_workers=1)


@pytest.fixture
def walk(made: Made) -> Walk:
    """The way of one photo."""
    return Walk(
        settings=made.settings,
        token=made.tokens["county-a"],
        signed=made.parties["county-a"].capture(),
        content=PHOTO,
    )


def die(walk: Walk, step: str) -> None:
    """Let a process walk until it dies at a step."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.walker"])
    child = context.Process(target=walker.die, args=(walk, step))
    child.start()
    child.join(120)
    assert child.exitcode == DIED


def check(made: Made, client: TestClient[Any], walk: Walk, package: bytes) -> None:
    """Everything happened, once; nothing lies about; a stranger accepts the package."""
    path = f"/v1/captures/{walk.signed.id}/statements"
    kinds = Counter(one["kind"] for one in get(client, made, path).json()["items"])
    places = Places(made.settings.folder)
    assert (kinds["capture"], kinds["stored"], kinds["inspected"]) == (1, 1, 1)
    assert list((places.staging / "waiting").iterdir()) == []
    assert len(list(LocalObjects(places.objects).names())) == 2  # the original and what was read
    until(lambda: list(places.exports.glob("*.part")) == [])  # the first one's work waits its turn
    assert get(client, made, f"/v1/captures/{walk.signed.id}/content").content == walk.content
    report = verify_package(io.BytesIO(package), known_keys(made), datetime.now(UTC))
    assert report.outcome in {Outcome.PASS, Outcome.UNCONFIRMED}
    assert [finding for log in check_logs(made.settings) for finding in log.findings] == []


@sampled("step", list(STEPS), count=4, ids=list(STEPS))
def test_what_a_kill_left_half_done_is_finished(made: Made, walk: Walk, step: str) -> None:
    """Whatever lay between two steps, the sender who repeats gets all of it, and nothing twice."""
    die(walk, step)
    with TestClient(create_app(made.settings)) as client:
        package = go(client, walk)
        check(made, client, walk, package)


def test_an_adoption_that_was_killed_is_still_stated(made: Made, walk: Walk) -> None:
    """A second kill, in the middle of taking the leftover up, does not hush that up."""
    die(walk, "staged and not noted")
    die(walk, "adopted and not stated")
    with TestClient(create_app(made.settings)) as client:
        package = go(client, walk)
        assert custody(client, made, walk.signed.id)[0] == "recovered"
        check(made, client, walk, package)


@pytest.mark.parametrize("earlier", [0, 1])
def test_wrong_bytes_are_stated_after_a_kill(made: Made, walk: Walk, earlier: int) -> None:
    """Each file that lies aside is stated, also where another was stated before."""
    with TestClient(create_app(made.settings)) as client:
        announce(client, made, walk.signed)
        for wrong in WRONG[:earlier]:
            assert send(client, made, walk.signed.id, wrong).status_code == 422
    walk = replace(walk, wrong=WRONG[earlier : earlier + 1])
    die(walk, "aside and not stated")
    with TestClient(create_app(made.settings)) as client:
        go(client, replace(walk, wrong=()))
        events = Counter(custody(client, made, walk.signed.id))
    staging = StagingFolder(Places(made.settings.folder).staging, reserve_bytes=0)
    assert len(list(staging.quarantined())) == earlier + 1
    assert events["quarantined"] == earlier + 1
