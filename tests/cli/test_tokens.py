"""`fengni token`: a deployment that `fengni init` made can be used, and closed again."""

from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from service.app import create_app
from service.cli import run
from tests.service.deployment_maker import Made, bearer, make_deployment


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A deployment of two organs."""
    return make_deployment(tmp_path / "deployment", token_cache_s=0)


def lists(client: TestClient[Any], token: str) -> int:
    """Status of a list of captures under this token."""
    return client.get("/v1/captures", headers=bearer(token)).status_code


def test_an_issued_token_opens_and_a_revoked_one_does_not(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server that runs beside the command takes the new token, and refuses the ended one."""
    folder = str(made.settings.folder)
    with TestClient(create_app(made.settings)) as client:
        capsys.readouterr()
        issued = run(
            ["token", "issue", "officer-9", folder, "--organ", "county-a", "--scope", "read"]
        )
        secret = capsys.readouterr().out.strip()
        opened = lists(client, secret)
        forbidden = client.post("/v1/exports", json={"captures": []}, headers=bearer(secret))
        run(["token", "list", folder])
        listed = capsys.readouterr().out
        [line] = [one for one in listed.splitlines() if "officer-9" in one]
        ended = run(["token", "revoke", line.split()[0], folder])
        again = run(["token", "revoke", line.split()[0], folder])
        closed = lists(client, secret)
    assert (issued, opened, forbidden.status_code) == (0, 200, 403)
    assert secret not in listed
    assert (ended, again, closed) == (0, 64, 401)


@pytest.mark.parametrize(
    "wrong",
    [
        ["officer-9", "--organ", "nowhere"],
        ["officer-9"],  # which of the two?
        ["Officer Nine", "--organ", "county-a"],
        ["officer-9", "--organ", "county-a", "--scope", "everything"],
    ],
)
def test_what_no_token_can_be_is_wrong_usage(made: Made, wrong: list[str]) -> None:
    """An unknown organ, scope or a name instead of a pseudonym: 64, and nothing is issued."""
    holder, *options = wrong
    assert run(["token", "issue", holder, str(made.settings.folder), *options]) == 64
