"""What all tests share: Hypothesis profiles, foreign material, database and S3 servers."""

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from storage.db.engine import migrate
from tests import sampling
from tests.postgres import PostgresServer, embedded_binaries, running, system_binaries
from tests.stores.ceph import Ceph, running_ceph
from tests.stores.weed import Weed, running_weed
from tests.tools import ROOT

# With CI set the examples are the same in every run; elsewhere each run looks at new ones.
settings.register_profile(
    "default", deadline=timedelta(seconds=10), suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# A test may start dozens of processes: none of them compiles the same modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_report_header() -> str:
    """Say what is sampled, so that a failure can be repeated."""
    return sampling.described()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of foreign test material: `$FENGNI_SHARED`, else `../shared`."""
    folder = Path(os.environ.get("FENGNI_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no foreign test material: set FENGNI_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL server of the test requirements, started when a test first asks for it."""
    with running(embedded_binaries()) as server:
        yield server


@pytest.fixture(scope="session")
def other_postgres() -> Iterator[PostgresServer]:
    """A second server like `postgres`, for what may not lie on the first."""
    with running(embedded_binaries()) as server:
        yield server


@pytest.fixture(scope="session")
def system_postgres() -> Iterator[PostgresServer]:
    """The system's own PostgreSQL server: an older version, on a server of its own."""
    with running(system_binaries()) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres", "system_postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh, migrated database of each sort, for the service's role."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'fengni.db'}"
        migrate(url)
        yield url
    else:
        server: PostgresServer = request.getfixturevalue(request.param)
        with server.database() as name:
            yield server.url(name)


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    """A running SeaweedFS; each test takes a bucket of its own."""
    with running_weed(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A running Ceph gateway; each test takes a bucket of its own."""
    with running_ceph(tmp_path_factory.mktemp("ceph")) as server:
        yield server
