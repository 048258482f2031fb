"""Conditional requests: whoever has the bytes already gets none, and nothing is stated for it."""

import hashlib
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from tests.service.deployment_maker import PHOTO, Made, bearer
from tests.service.test_captures import custody, seal
from tests.service.test_exports import ask, fetch

Client = TestClient[Any]
TAG = f'"{hashlib.sha256(PHOTO).hexdigest()}"'
OTHER = f'"{hashlib.sha256(b"other").hexdigest()}"'


def ask_with(client: Client, made: Made, path: str, **headers: str) -> httpx.Response:
    """GET as county-a's officer, under conditions."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(path, headers=bearer(made.tokens["county-a"]) | named)


@pytest.mark.parametrize("tags", [TAG, f"W/{TAG}", f"{OTHER}, {TAG}", "*"])
def test_who_has_the_content_gets_304_and_reads_nothing(
    client: Client, made: Made, tags: str
) -> None:
    """The tag comes back, no byte does, and no reading is stated; HEAD says the same."""
    capture = seal(client, made)
    path = f"/v1/captures/{capture}/content"
    known = ask_with(client, made, path, If_None_Match=tags, Range="bytes=0-3")
    headers = bearer(made.tokens["county-a"]) | {"If-None-Match": tags}
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", TAG)
    assert client.head(path, headers=headers).status_code == 304
    assert custody(client, made, capture) == []


@pytest.mark.parametrize("tags", [OTHER, TAG[1:-1], TAG[:-1], "", "**"])
def test_who_has_something_else_reads_the_content(client: Client, made: Made, tags: str) -> None:
    """Another tag, or none that is one, is an ordinary reading."""
    capture = seal(client, made)
    answer = ask_with(client, made, f"/v1/captures/{capture}/content", If_None_Match=tags)
    assert (answer.status_code, answer.content) == (200, PHOTO)
    assert custody(client, made, capture) == ["viewed"]


@pytest.mark.parametrize(
    ("tag", "status"), [(TAG, 206), (OTHER, 200), (f"W/{TAG}", 200), ("Mon, 23 Nov 2026", 200)]
)
def test_a_part_is_given_only_of_the_content_that_was_begun(
    client: Client, made: Made, tag: str, status: int
) -> None:
    """If-Range with the very tag keeps the range; anything else gets the whole."""
    path = f"/v1/captures/{seal(client, made)}/content"
    answer = ask_with(client, made, path, Range="bytes=4-", If_Range=tag)
    assert (answer.status_code, answer.content) == (status, PHOTO[4 if status == 206 else 0 :])


def test_who_has_the_package_gets_304(client: Client, made: Made) -> None:
    """The same tag that came with the package spares its bytes."""
    location = ask(client, made, seal(client, made)).headers["location"]
    tag = f'"{hashlib.sha256(fetch(client, made, location)).hexdigest()}"'
    known = ask_with(client, made, f"{location}/package", If_None_Match=tag)
    other = ask_with(client, made, f"{location}/package", If_None_Match=OTHER)
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    assert (other.status_code, other.headers["etag"]) == (200, tag)


@pytest.mark.parametrize("tags", [OTHER, f"W/{TAG}", TAG[1:-1], '"xyz"', ""])
def test_who_wants_another_content_gets_412_and_reads_nothing(
    client: Client, made: Made, tags: str
) -> None:
    """If-Match without the very tag ends the request before any range or other condition."""
    capture = seal(client, made)
    path = f"/v1/captures/{capture}/content"
    refused = ask_with(client, made, path, If_Match=tags, Range="bytes=0-3", If_None_Match=TAG)
    headers = bearer(made.tokens["county-a"]) | {"If-Match": tags}
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert client.head(path, headers=headers).status_code == 412
    assert client.get(f"{path}?as=preview", headers=headers).status_code == 412
    assert custody(client, made, capture) == []


@pytest.mark.parametrize("tags", [TAG, f"{OTHER}, {TAG}", "*"])
def test_who_wants_this_content_reads_it(client: Client, made: Made, tags: str) -> None:
    """If-Match with the tag among its own leaves the range what it is."""
    path = f"/v1/captures/{seal(client, made)}/content"
    answer = ask_with(client, made, path, If_Match=tags, Range="bytes=4-")
    assert (answer.status_code, answer.content) == (206, PHOTO[4:])


def test_who_wants_another_package_gets_412(client: Client, made: Made) -> None:
    """The package's own tag passes, another one does not."""
    location = ask(client, made, seal(client, made)).headers["location"]
    package = fetch(client, made, location)
    tag = f'"{hashlib.sha256(package).hexdigest()}"'
    same = ask_with(client, made, f"{location}/package", If_Match=tag)
    other = ask_with(client, made, f"{location}/package", If_Match=OTHER)
    assert (same.status_code, same.content) == (200, package)
    assert (other.status_code, other.json()["code"]) == (412, "precondition_failed")
