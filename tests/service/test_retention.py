"""Retention, from the outside: sealed content, longer locks, holds, disposal by three persons."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evidence.report import Outcome
from evidence.verify import verify_package
from service.deployment_file import Places, read_deployment
from service.doctor import examine
from service.fsck import check_logs
from service.settings import SettingsInvalid
from storage.keys.stores import FileKeys
from storage.objects.local import LocalObjects
from tests.service.deployment_maker import PHOTO, Made
from tests.service.retention_maker import (
    OPEN,
    VIDEO,
    Client,
    Clock,
    approve,
    ask,
    bytes_below,
    clocked,
    code_of,
    dispose,
    keep,
    make,
    request,
    sealed_capture,
    serve,
    wait_for,
)
from tests.service.test_exports import fetch, known_keys
from tests.service.test_inspection import picture
from tests.service.test_s3_service import stated


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A clock that goes by what the test wants."""
    with clocked(monkeypatch) as set_clock:
        yield set_clock


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A deployment with classes."""
    return make(tmp_path / "deployment")


@pytest.fixture
def client(made: Made, clock: Clock) -> Iterator[Client]:
    """A client of the running application."""
    del clock
    with serve(made) as running:
        yield running


def sound(made: Made) -> None:
    """Neither the doctor nor fsck has anything to say."""
    told = examine(made.settings, datetime.now(UTC))
    wrong = [one for one in told if one.answer == "fail" and one.name.startswith(("obj", "capt"))]
    assert wrong == []
    assert [finding for log in check_logs(made.settings) for finding in log.findings] == []


def test_content_of_a_class_that_seals_lies_nowhere_in_the_clear(
    client: Client, made: Made
) -> None:
    """It is read as it was sent; the store, staging and database hold none of it."""
    capture = sealed_capture(client, made, PHOTO)
    path = f"/v1/captures/{capture}/content"
    whole = ask(client, made, "head", "GET", path)
    assert (whole.status_code, whole.content) == (200, PHOTO)
    token = {"range": "bytes=3-9", **dict(whole.request.headers)}
    assert client.get(path, headers=token).content == PHOTO[3:10]
    assert PHOTO[4:-2] not in bytes_below(made)
    [one] = stated(made, "stored")
    lies: Any = one.body["object"]
    assert (lies["sealed"], one.body["retention_class"]) == ("fengni-sealed/1", "public-video")
    assert lies["name"] != one.body["content"]["sha256"]  # type: ignore[index,call-overload]
    shown = ask(client, made, "head", "GET", f"/v1/captures/{capture}/retention").json()
    assert (shown["sealed"], shown["source"]) == (True, VIDEO.source.cited)
    received = datetime.fromisoformat(str(one.body["received_at"]))
    assert datetime.fromisoformat(shown["keep_until"]) == received + timedelta(days=30)
    assert shown["expires_at"] == shown["keep_until"]
    sound(made)


def test_the_same_content_twice_shares_nothing(client: Client, made: Made, clock: Clock) -> None:
    """Two captures, two objects, two keys; the end of one is not the end of the other."""
    first, second = (sealed_capture(client, made, PHOTO) for _ in range(2))
    assert len(list(LocalObjects(Places(made.settings.folder).objects).names())) == 2
    clock.ahead = timedelta(days=31)
    dispose(client, made, first)
    assert ask(client, made, "head", "GET", f"/v1/captures/{second}/content").content == PHOTO


def test_a_capture_without_a_class_is_kept_as_before(client: Client, made: Made) -> None:
    """Its object is its content, and no statement speaks of a class."""
    capture = sealed_capture(client, made, PHOTO, mode="attended")
    [one] = stated(made, "stored")
    assert one.body["object"]["name"] == one.body["content"]["sha256"]  # type: ignore[index,call-overload]
    assert {"retention_class", "locked_until"} & one.body.keys() == set()
    shown = ask(client, made, "head", "GET", f"/v1/captures/{capture}/retention").json()
    assert (shown["retention_class"], shown["sealed"], shown["expires_at"]) == (None, False, None)


def test_a_package_holds_sealed_content_in_the_clear(tmp_path: Path, clock: Clock) -> None:
    """What was sealed, and what was read in it, is verified by a stranger like anything else."""
    del clock
    made = make(tmp_path / "deployment", inspect_workers=1)
    photo = picture()
    with serve(made) as client:
        capture = sealed_capture(client, made, photo)
        while not ask(client, made, "head", "GET", f"/v1/captures/{capture}").json()["inspections"]:
            pass
        made.tokens["county-a"] = made.tokens["clerk@county-a"]
        export = ask(client, made, "clerk", "POST", "/v1/exports", json={"captures": [capture]})
        package = fetch(client, made, export.headers["location"])
    report = verify_package(io.BytesIO(package), known_keys(made), datetime.now(UTC))
    assert {one.name for one in report.checks if one.outcome is Outcome.CHANGED} == set()
    [inspected] = stated(made, "inspected")
    assert "output_object" in inspected.body
    kept = b"".join(
        p.read_bytes() for p in (made.settings.folder / "objects").rglob("*") if p.is_file()
    )
    assert b'"facets"' not in kept
    assert photo[:64] not in kept
    sound(made)


def test_a_disposal_takes_three_persons_and_an_ended_period(
    client: Client, made: Made, clock: Clock
) -> None:
    """Too early, held, alone, by a pair: refused. Then the key is gone and the log tells why."""
    capture = sealed_capture(client, made, PHOTO)
    assert code_of(request(client, made, "clerk", capture)) == (409, "retention_running")
    clock.ahead = timedelta(days=31)
    held = keep(client, made, "jurist", capture, action="hold", reference="hold-1", reason="court")
    assert held.json()["holds"] == ["hold-1"]
    assert code_of(request(client, made, "clerk", capture)) == (409, "on_hold")
    wrong = keep(client, made, "jurist", capture, action="release", reference="hold-2")
    assert code_of(wrong) == (404, "hold_unknown")
    freed = keep(client, made, "jurist", capture, action="release", reference="hold-1")
    assert freed.json()["holds"] == []
    asked = request(client, made, "clerk", capture).json()["request"]
    assert code_of(approve(client, made, "clerk", capture, asked)) == (403, "same_person")
    assert code_of(approve(client, made, "head", capture, "ab" * 32)) == (409, "not_requested")
    assert approve(client, made, "head", capture, asked).status_code == 200
    assert code_of(approve(client, made, "head", capture, asked)) == (403, "same_person")
    assert ask(client, made, "head", "GET", f"/v1/captures/{capture}/content").content == PHOTO
    assert approve(client, made, "jurist", capture, asked).status_code == 200
    wait_for(client, made, capture, "disposed")
    gone = ask(client, made, "head", "GET", f"/v1/captures/{capture}/content")
    [certificate] = stated(made, "disposed")
    assert code_of(gone) == (410, "disposed")
    assert certificate.id in gone.json()["detail"]
    assert certificate.body["method"] == "key_destroyed_and_object_removed"
    assert certificate.body["authority"] == "公共安全视频图像信息系统管理条例 第17条"
    assert len(set(certificate.body["approvals"])) == 2  # type: ignore[arg-type]
    again = ask(client, made, "clerk", "PUT", f"/v1/captures/{capture}/content", content=PHOTO)
    assert code_of(again) == (410, "disposed")
    late = keep(client, made, "jurist", capture, action="hold", reference="late")
    assert code_of(late) == (409, "disposal_begun")
    keys = FileKeys(Places(made.settings.folder).text_keys)
    [note] = keys.destroyed()
    keys.close()
    assert (note.name, note.by) == (f"content {capture}", "head jurist")
    assert list(LocalObjects(Places(made.settings.folder).objects).names()) == []
    sound(made)


def test_what_was_disposed_of_is_shown_in_packages(
    client: Client, made: Made, clock: Clock
) -> None:
    """The package has the certificate and no content; nothing in it counts as changed."""
    capture = sealed_capture(client, made, PHOTO)
    made.tokens["county-a"] = made.tokens["clerk@county-a"]
    exports = {"json": {"captures": [capture]}}
    before = ask(client, made, "clerk", "POST", "/v1/exports", **exports).headers["location"]
    fetch(client, made, before)
    clock.ahead = timedelta(days=31)
    dispose(client, made, capture)
    assert list(Places(made.settings.folder).exports.glob("*.zip")) == []
    after = ask(client, made, "clerk", "POST", "/v1/exports", **exports).headers["location"]
    package = fetch(client, made, after)
    report = verify_package(
        io.BytesIO(package), known_keys(made), datetime.now(UTC) + timedelta(days=31)
    )
    assert {one.name for one in report.checks if one.outcome is Outcome.CHANGED} == set()
    assert PHOTO not in package
    rungs = ask(client, made, "head", "GET", f"/v1/captures/{capture}").json()["ladder"]
    [stored] = [one for one in rungs if one["rung"] == "stored"]
    assert (stored["outcome"], "disposed of by" in stored["detail"]) == ("not_checked", True)


def test_a_case_or_a_hold_voids_what_was_approved(client: Client, made: Made, clock: Clock) -> None:
    """Who approved did not know of it; a lock only grows, also in the store."""
    capture = sealed_capture(client, made, PHOTO)
    clock.ahead = timedelta(days=31)
    asked = request(client, made, "clerk", capture).json()["request"]
    assert approve(client, made, "head", capture, asked).status_code == 200
    case = keep(client, made, "jurist", capture, action="admit").json()
    assert (case["request"], case["approvals"]) == (None, [])
    until = datetime.fromisoformat(case["locked_until"])
    assert abs(until - clock() - timedelta(days=365)) < timedelta(minutes=1)
    assert code_of(approve(client, made, "jurist", capture, asked)) == (409, "not_requested")
    shorter = keep(client, made, "jurist", capture, action="extend", until="2027-01-01T00:00:00Z")
    assert code_of(shorter) == (409, "period_shortened")
    [stored] = stated(made, "stored")
    name: Any = stored.body["object"]
    kept = LocalObjects(Places(made.settings.folder).objects).stat(name["name"])
    assert kept.locked_until == until


def test_content_that_is_not_sealed_is_removed_and_shared_bytes_stay(
    client: Client, made: Made, clock: Clock
) -> None:
    """Two imports of the same bytes have one object, which goes with the second of them."""
    first, second = (sealed_capture(client, made, PHOTO, mode="import") for _ in range(2))
    objects = LocalObjects(Places(made.settings.folder).objects)
    assert len(list(objects.names())) == 1
    clock.ahead = timedelta(days=OPEN.keep_days + 1)
    dispose(client, made, first)
    assert ask(client, made, "head", "GET", f"/v1/captures/{second}/content").content == PHOTO
    dispose(client, made, second)
    assert list(objects.names()) == []
    methods = [one.body["method"] for one in stated(made, "disposed")]
    assert methods == ["kept_for_others", "object_removed"]
    assert PHOTO[4:-2] not in bytes_below(made)
    sound(made)


def test_content_without_a_class_needs_its_own_authority(
    client: Client, made: Made, clock: Clock
) -> None:
    """It has no period of its own; who requests names the article."""
    del clock
    capture = sealed_capture(client, made, PHOTO, mode="attended")
    assert code_of(keep(client, made, "head", capture, action="admit")) == (422, "invalid")
    assert code_of(request(client, made, "clerk", capture)) == (422, "invalid")
    dispose(client, made, capture, authority="个人信息保护法 第47条")
    [one] = stated(made, "disposed")
    assert (one.body["authority"], one.body["retention_class"]) == (
        "个人信息保护法 第47条",
        "default",
    )


def test_another_organ_sees_none_of_it(client: Client, made: Made) -> None:
    """Every route answers another organ's people as if there were no such capture."""
    capture = sealed_capture(client, made, PHOTO)
    other = "head@county-b"
    for answer in (
        ask(client, made, other, "GET", f"/v1/captures/{capture}/retention"),
        keep(client, made, other, capture, action="hold"),
        request(client, made, other, capture),
        approve(client, made, other, capture, "ab" * 32),
    ):
        assert code_of(answer) == (404, "capture_unknown")


def test_nothing_is_disposed_of_while_the_clock_is_wrong(
    client: Client, made: Made, clock: Clock
) -> None:
    """A clock behind the log's newest entry proves that it cannot be relied on."""
    capture = sealed_capture(client, made, PHOTO, mode="attended")
    clock.ahead = timedelta(hours=-1)
    answer = request(client, made, "clerk", capture, authority="个人信息保护法 第47条")
    assert code_of(answer) == (409, "clock_behind")


def test_classes_that_fall_short_of_the_law_are_refused(made: Made) -> None:
    """Less than an article demands, a class that is not there, a mode that is none, a double."""
    path = made.settings.folder / "deployment.json"
    right = path.read_text("utf-8")
    for old, new in (
        ('"keep_days":30', '"keep_days":29'),
        ('"automated":"public-video"', '"automated":"other"'),
        ('"automated":"public-video"', '"sometimes":"public-video"'),
        ('"name":"inspection"', '"name":"public-video"'),
    ):
        path.write_text(right.replace(old, new), "utf-8")
        with pytest.raises(SettingsInvalid, match=r"class|mode"):
            read_deployment(made.settings)
    path.write_text(right, "utf-8")
    assert read_deployment(made.settings).retention_classes == (VIDEO, OPEN)


def test_bodies_are_read_strictly(client: Client, made: Made) -> None:
    """Unknown actions and members are refused before anything is looked up."""
    capture = sealed_capture(client, made, PHOTO)
    assert keep(client, made, "head", capture, action="forget").status_code == 422
    assert keep(client, made, "head", capture, action="hold", extra=1).status_code == 422


def test_the_doctor_tells_what_waits_for_people(client: Client, made: Made, clock: Clock) -> None:
    """A period that ended and a hold that runs are counted; a capture is named in neither."""
    captures = [sealed_capture(client, made, PHOTO) for _ in range(2)]
    told = {one.name: one for one in examine(made.settings, datetime.now(UTC))}
    assert told["retention.ended"].answer == "pass"
    assert "retention.holds" not in told
    assert keep(client, made, "head", captures[0], action="hold", reference="case-9").is_success
    clock.ahead = timedelta(days=31)
    told = {one.name: one for one in examine(made.settings, clock())}
    ended, holds = told["retention.ended"], told["retention.holds"]
    assert (ended.answer, holds.answer) == ("note", "note")
    assert "The retention of 1 captures has ended" in ended.detail
    assert holds.detail == "Legal holds run on 1 captures."
    assert not any(capture in ended.detail + holds.detail for capture in captures)
    assert request(client, made, "clerk", captures[1]).is_success
    told = {one.name: one for one in examine(made.settings, clock())}
    assert told["retention.ended"].answer == "pass"
