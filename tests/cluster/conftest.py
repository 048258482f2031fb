"""One cluster for all tests of this folder that leave it whole."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster_process import ClusterProcess, cluster_folder
from tests.tools import require_tool


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterProcess]:
    """A running cluster of one web node."""
    for tool in ("openssl", "weed"):
        require_tool(tool)
    with cluster_folder() as place:
        running = ClusterProcess(place)
        running.start()
        try:
            yield running
        finally:
            running.stop()
