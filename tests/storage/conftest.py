"""A log's tests on both databases."""

from collections.abc import Iterator

import pytest

from tests.storage import log_material


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def both_databases(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let every `Place` of a module keep its database in a file, then on a server."""
    if request.param == "sqlite":
        yield
    else:
        with log_material.on_server(request.getfixturevalue(request.param)):
            yield
