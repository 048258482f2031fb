"""Settings and fixtures that all tests share: Hypothesis profiles and the foreign test material."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
