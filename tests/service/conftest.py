"""A real deployment behind an in-process client."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from service.app import create_app
from tests.service.attested_maker import Attested, make_attested
from tests.service.deployment_maker import Made, make_deployment
from tests.service.kept_deployment import Kept, use


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A fresh deployment of two organs."""
    return make_deployment(tmp_path / "deployment")


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
