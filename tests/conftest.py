"""Settings and fixtures that all tests share: Hypothesis profiles, foreign material, S3 servers."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.stores.ceph import Ceph, running_ceph
from tests.stores.weed import Weed, running_weed
from tests.tools import ROOT

# With CI set the examples are the same in every run; elsewhere each run looks at new ones.
settings.register_profile(
    "default", deadline=timedelta(seconds=10), suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of foreign test material: `$FENGNI_SHARED`, else `../shared`."""
    folder = Path(os.environ.get("FENGNI_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no foreign test material: set FENGNI_SHARED to its folder")
    return folder


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
