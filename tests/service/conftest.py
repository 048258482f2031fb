"""A real deployment behind an in-process client."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from service.app import create_app
from tests.service.attested_maker import Attested, make_attested
from tests.service.deployment_maker import Made, make_deployment
from tests.service.kept_deployment import Kept, use

TEMPLATE_LIFE_S = 1200
"""Its tokens live for an hour."""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Made]:
    """An unused deployment to copy, made anew before its tokens are old."""
    kept: list[tuple[float, Made]] = []

    def newest() -> Made:
        """The one to copy now."""
        if not kept or time.monotonic() > kept[-1][0] + TEMPLATE_LIFE_S:
            folder = tmp_path_factory.mktemp("template") / "deployment"
            kept.append((time.monotonic(), make_deployment(folder)))
        return kept[-1][1]

    return newest


@pytest.fixture
def made(template: Callable[[], Made], tmp_path: Path) -> Made:
    """A fresh deployment of two organs: a copy of one that was never used, with its keys."""
    unused, folder = template(), tmp_path / "deployment"
    shutil.copytree(unused.settings.folder, folder)
    return Made(
        settings=msgspec.structs.replace(unused.settings, folder=folder),
        deployment=unused.deployment,
        parties={organ: replace(party) for organ, party in unused.parties.items()},
        tokens=dict(unused.tokens),
    )


@pytest.fixture
def client(made: Made) -> Iterator[TestClient[Any]]:
    """A client of the running application."""
    with TestClient(create_app(made.settings)) as running:
        yield running


@pytest.fixture
def reopen(made: Made) -> Iterator[Callable[[], TestClient[Any]]]:
    """Start the application again over the same folder, once the one before is closed."""
    opened: list[TestClient[Any]] = []

    def again() -> TestClient[Any]:
        """A new client."""
        for one in opened:
            one.__exit__(None, None, None)
        opened[:] = [TestClient(create_app(made.settings))]
        return opened[0].__enter__()

    yield again
    for one in opened:
        one.__exit__(None, None, None)


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attested]:
    """A deployment whose witness and authority answer during all tests."""
    made = make_attested(tmp_path_factory.mktemp("attested"))
    with made.outside():
        yield made


@pytest.fixture(scope="module")
def original(attested: Attested) -> Kept:
    """The deployment, used and stopped."""
    return use(attested)


@pytest.fixture
def kept(original: Kept, tmp_path: Path) -> Kept:
    """A copy that the test may spoil."""
    return original.copy(tmp_path / "deployment")
