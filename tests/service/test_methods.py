"""Methods: every address tells what it allows, and HEAD is GET without its body."""

from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from service.app import ROUTES
from tests.service.deployment_maker import PHOTO, Made, bearer
from tests.service.test_captures import custody, get, seal
from tests.service.test_exports import ask, fetch

Client = TestClient[Any]
SET_ANEW = {"x-request-id", "date"}


def head(client: Client, made: Made, path: str, **headers: str) -> httpx.Response:
    """HEAD as county-a's officer."""
    return client.head(path, headers=bearer(made.tokens["county-a"]) | headers)


def told(answer: httpx.Response) -> dict[str, str]:
    """The headers of an answer that two equal requests have in common."""
    return {name: value for name, value in answer.headers.items() if name not in SET_ANEW}


def addresses() -> dict[str, set[str]]:
    """The methods of each address, with its parameters filled in."""
    found: dict[str, set[str]] = {}
    for route in ROUTES:
        for path in route.paths:
            filled = path.replace("{capture:str}", "00" * 32).replace("{path:path}", "0/000")
            filled = filled.replace("{export:str}", "00").replace("{log:str}", "county-a-2026")
            found.setdefault(filled.replace("{code:str}", "busy"), set()).update(route.http_methods)
    return found


def allow(methods: set[str]) -> str:
    """What `Allow` must say for an address with these methods."""
    return ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))


def test_every_address_tells_what_it_allows(client: Client) -> None:
    """OPTIONS is 204 and any other method 405, with the same `Allow`, without a token."""
    for path, methods in addresses().items():
        options, refused = client.options(path), client.delete(path)
        assert (options.status_code, options.content) == (204, b"")
        assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
        assert options.headers["allow"] == refused.headers["allow"] == allow(methods)


def test_head_where_nothing_can_be_got_is_refused(client: Client) -> None:
    """An address that only takes something has no HEAD either."""
    answer = client.head("/v1/exports")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/v1/logs", "/v1/captures", "/nothing"])
def test_head_is_get_without_its_body(client: Client, made: Made, path: str) -> None:
    """The same status and headers, problems included."""
    got, headed = get(client, made, path), head(client, made, path)
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert told(headed) == told(got)


def test_head_of_content_reveals_nothing_and_is_no_reading(client: Client, made: Made) -> None:
    """What the capture's own page says of it, whatever range is asked for, and no statement."""
    path = f"/v1/captures/{seal(client, made)}/content"
    headed = head(client, made, path, Range="bytes=0-3")
    preview = head(client, made, f"{path}?as=preview")
    assert custody(client, made, path.split("/")[3]) == []
    assert (headed.status_code, headed.content) == (200, b"")
    assert told(headed) == told(get(client, made, path))
    assert headed.headers["content-length"] == str(len(PHOTO))
    assert (preview.status_code, preview.headers["content-type"]) == (200, "image/jpeg")
    assert "content-length" not in preview.headers


def test_head_of_a_package_is_told_like_the_package(client: Client, made: Made) -> None:
    """Its length and its tag, and none of its bytes."""
    location = ask(client, made, seal(client, made)).headers["location"]
    package = fetch(client, made, location)
    headed = head(client, made, f"{location}/package")
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-length"] == str(len(package))
    assert told(headed) == told(get(client, made, f"{location}/package"))
