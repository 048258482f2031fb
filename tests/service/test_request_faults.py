"""Faults of a request are named where they are: a parameter of its query, a member of its body."""

from typing import Any

import pytest
from litestar.testing import TestClient

from service.app import ROUTES
from tests.service.deployment_maker import Made, bearer
from tests.service.test_captures import get

Client = TestClient[Any]
ID = "00" * 32
UNKNOWN = "The schema names no such member."
UNFIT = "The value does not fit its schema."


def post(client: Client, made: Made, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """POST bytes as JSON, as county-a's officer; the status and the problem."""
    headers = bearer(made.tokens["county-a"]) | {"content-type": "application/json"}
    answer = client.post(path, content=body, headers=headers)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("path", "body", "pointer", "detail"),
    [
        ("/v1/captures", b'{"statements":[1],"extra":1}', "/extra", UNKNOWN),
        ("/v1/exports", b'{"a/b~c":1,"captures":[]}', "/a~1b~0c", UNKNOWN),
        ("/v1/exports", b'{"x - at `$.y`":1,"captures":[]}', "", UNKNOWN),
        ("/v1/captures", b"{}", "", "The member statements is missing."),
        ("/v1/exports", b"{}", "", "The member captures is missing."),
        ("/v1/exports", b"[]", "", UNFIT),
        ("/v1/exports", b"null", "", UNFIT),
        ("/v1/exports", b'{"captures":1}', "/captures", UNFIT),
        ("/v1/exports", b'{"captures":["x"]}', "/captures/0", UNFIT),
    ],
)
def test_a_pointer_leads_into_the_client_s_own_body(
    client: Client, made: Made, path: str, body: bytes, pointer: str, detail: str
) -> None:
    """It names the member at fault, or what lacks one; never an argument of this program."""
    status, problem = post(client, made, path, body)
    assert (status, problem["code"]) == (422, "invalid")
    assert problem["errors"] == [{"pointer": pointer, "detail": detail}]


@pytest.mark.parametrize("path", ["/v1/captures", "/v1/exports"])
@pytest.mark.parametrize("body", [b"", b" "])
def test_an_empty_body_is_no_json(client: Client, made: Made, path: str, body: bytes) -> None:
    """Nothing at all breaks no schema: it cannot be read."""
    status, problem = post(client, made, path, body)
    assert (status, problem["code"], "errors" in problem) == (400, "bad_request", False)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("nosuch=1", ["nosuch"]),
        ("nosuch", ["nosuch"]),
        ("limit=1&limit=2", ["limit"]),
        ("limit=1&limit=1", ["limit"]),
        ("Limit=1&limit=2&%6Cimit=3", ["Limit", "limit"]),
        ("minimum=1", ["minimum"]),
        ("=1", [""]),
        (f"{'x' * 99}=1", ["x" * 64]),
    ],
)
def test_a_parameter_that_nobody_reads_is_named(
    client: Client, made: Made, query: str, names: list[str]
) -> None:
    """Unknown ones, and those of which only one could count."""
    answer = get(client, made, f"/v1/captures?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert [one["parameter"] for one in answer.json()["errors"]] == names


def test_no_route_takes_a_parameter_that_it_does_not_know(client: Client, made: Made) -> None:
    """Every address, every method: 422 before anything is done."""
    told: set[tuple[int, str]] = set()
    headers = bearer(made.tokens["county-a"]) | {"content-type": "application/json"}
    for route in ROUTES:
        for path in route.paths:
            filled = path.replace("{capture:str}", ID).replace("{path:path}", "0/000")
            filled = filled.replace("{export:str}", "00").replace("{log:str}", "county-a-2026")
            filled = filled.replace("{code:str}", "busy")
            for method in route.http_methods:
                answer = client.request(method, f"{filled}?nosuch=1", headers=headers)
                told.add((answer.status_code, answer.json()["errors"][0]["parameter"]))
    assert told == {(422, "nosuch")}


def test_parameters_that_are_known_are_taken_by_their_wire_names(
    client: Client, made: Made
) -> None:
    """`min` and `as` are those of the description; who has no token is told of that first."""
    proof = get(client, made, f"/v1/captures/{ID}/proof?min=logged")
    content = get(client, made, f"/v1/captures/{ID}/content?as=preview")
    stranger = client.get("/v1/captures?nosuch=1")
    assert proof.json()["code"] == content.json()["code"] == "capture_unknown"
    assert stranger.status_code == 401
    assert client.options("/v1/captures?limit=1").status_code == 204
