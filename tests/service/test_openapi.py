"""The API's description: complete, closed, and nothing in it leads to a 5xx."""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from schemathesis import Case
from schemathesis.core.result import Ok

from service.app import ROUTES
from tests.sampling import ALL
from tests.service.deployment_maker import Made, bearer, wire
from tests.service.test_captures import get, seal

Client = TestClient[Any]
EXAMPLES = 30 if ALL else 8
"""Requests for each operation."""
METHODS = {"get", "post", "put"}


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    """The OpenAPI document as it is served."""
    return client.get("/openapi.json").json()


def test_every_route_is_described_with_problems(document: dict[str, Any]) -> None:
    """Each has a summary and the one form of a problem; each but the public ones a token."""
    described = [
        (method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    hidden = 1  # the front page
    assert len(described) == len(ROUTES) - hidden
    assert [path for _, path, one in described if not one.get("summary")] == []
    assert [path for _, path, one in described if "default" not in one["responses"]] == []
    open_paths = sorted(path for _, path, one in described if "security" not in one)
    assert open_paths == [
        "/docs",
        "/healthz",
        "/logs/{log}/checkpoint",
        "/logs/{log}/tile/{path}",
        "/metrics",
        "/openapi.json",
        "/problems/{code}",
        "/readyz",
    ]


def test_bodies_are_described_also_where_they_stream(document: dict[str, Any]) -> None:
    """The content is a binary body; JSON bodies are closed against unknown members."""
    content = document["paths"]["/v1/captures/{capture}/content"]["put"]
    assert content["requestBody"]["content"]["application/octet-stream"]["schema"] == {
        "type": "string",
        "format": "binary",
    }
    assert set(content["responses"]) == {"200", "201", "default"}
    schemas = document["components"]["schemas"]
    closed = [name for name, one in schemas.items() if one.get("additionalProperties") is False]
    for path in ("/v1/captures", "/v1/exports"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert body["schema"]["$ref"].rpartition("/")[2] in closed


def test_the_bytes_that_come_back_are_described_as_bytes(document: dict[str, Any]) -> None:
    """Originals, previews, parts, packages and tiles are binary; what has no body has none."""
    content = document["paths"]["/v1/captures/{capture}/content"]["get"]["responses"]
    package = document["paths"]["/v1/exports/{export}/package"]["get"]["responses"]
    tile = document["paths"]["/logs/{log}/tile/{path}"]["get"]["responses"]
    bodies = [content["200"], content["206"], package["200"], tile["200"]]
    schemas = [one["schema"] for body in bodies for one in body["content"].values()]
    assert schemas == [{"type": "string", "format": "binary"}] * len(schemas)
    assert set(content["200"]["content"]) == {"application/octet-stream", "image/*", "video/*"}
    assert set(content) == {"200", "206", "304", "412", "416", "default"}
    assert set(content["416"]["content"]) == {"application/problem+json"}
    assert set(content["206"]["headers"]) >= {"ETag", "Content-Range"}
    assert [one for one in (content["304"], package["304"]) if "content" in one] == []


def test_the_page_names_every_member(client: Client, document: dict[str, Any]) -> None:
    """Bodies and answers lead to their forms, and each form lists its members."""
    page = client.get("/docs").text
    forms = document["components"]["schemas"]
    assert set(forms["WireStatement"]["properties"]) == {"statement", "signature", "key_id"}
    for name, form in forms.items():
        _, found, rest = page.partition(f"<h3 id=form-{name}>")
        table = rest.partition("<h3")[0]
        assert found
        assert [
            one for one in form.get("properties", {}) if f"<code>{one}</code>" not in table
        ] == []
    links = set(re.findall(r"<a href=#form-(\w+)>", page))
    assert links <= set(forms)
    assert links >= {
        "Announcement",
        "WireStatement",
        "AnnouncementAnswer",
        "CaptureView",
        "Problem",
    }


def test_the_page_loads_nothing_from_elsewhere(client: Client) -> None:
    """No script, no source, no style sheet, no foreign address; and a policy that says so."""
    answer = client.get("/docs")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert re.findall(r"<script|<link|<img|src=|https?://", answer.text) == []
    assert "/v1/captures/{capture}/content" in answer.text


@pytest.mark.sampled
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")
def test_nothing_that_fits_the_description_makes_the_server_fail(
    client: Client, made: Made, document: dict[str, Any]
) -> None:
    """Generated requests, valid and not, with a token and a real capture, never meet a 5xx.

    The server runs in this process, and a thread of its engine draws random pauses meanwhile.
    """
    capture = seal(client, made)
    schema = schemathesis.openapi.from_dict(document)
    failures: list[str] = []
    answered: list[int] = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @seed(20261123)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        @given(case=operation.as_strategy(), known=st.booleans())
        def exercise(case: Case, known: bool) -> None:
            """One request; the capture is a real one half of the time."""
            if known and "capture" in (case.path_parameters or {}):
                case.path_parameters["capture"] = capture
            sent = case.as_transport_kwargs(base_url="http://testserver.local")
            sent["headers"] = {**dict(sent.get("headers") or {}), **bearer(made.tokens["county-a"])}
            sent.pop("cookies", None)
            if "data" in sent:
                sent["content"] = sent.pop("data")
            answer = client.request(**sent)
            answered.append(answer.status_code)
            if answer.status_code >= 500:
                failures.append(f"{case.method} {case.path}: {answer.status_code} {answer.text}")

        exercise()
    assert failures == []
    assert {200, 404, 405, 422} & set(answered) >= {200, 404, 422}


def test_announcements_that_fit_the_schema_and_nothing_else_are_told_apart(
    client: Client, made: Made
) -> None:
    """Whole-request faults point at the place; item faults stay with their item."""
    party = made.parties["county-a"]
    headers = bearer(made.tokens["county-a"])
    cases: list[tuple[object, int, str]] = [
        ({"statements": []}, 422, "invalid"),
        ({"statements": [1] * 201}, 422, "invalid"),
        ({"statements": "no"}, 422, "invalid"),
        ({}, 422, "invalid"),
        ({**wire(party.capture()), "extra": 1}, 422, "invalid"),
        ([], 422, "invalid"),
    ]
    told = [
        (answer.status_code, answer.json()["code"])
        for answer in (
            client.post("/v1/captures", json=one, headers=headers) for one, _, _ in cases
        )
    ]
    assert told == [(status, code) for _, status, code in cases]
    assert get(client, made, "/v1/captures").json()["items"] == []
