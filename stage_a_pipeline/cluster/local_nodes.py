"""Ray nodes on this machine alone, each as large as it is told: for benchmarks and trials."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from stage_a_pipeline.cluster.connection import require_ray

LOOPBACK: Final = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Environment of a Ray that listens on the loopback interface alone, and tells nobody that it is there.

The first is named for the systems where that is the default.
"""

_STORE_BYTES: Final = 200 * 1024**2


@contextmanager
def local_nodes(count: int) -> Iterator[str]:
    """So many nodes with one processor each, as separate as hosts are to Ray; the address of the cluster.

    ConfigurationError without Ray. Processes that connect to them need LOOPBACK in their environment too.
    """
    require_ray()
    os.environ.update(LOOPBACK)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(count - 1):
            cluster.add_node(wait=False, **node)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
