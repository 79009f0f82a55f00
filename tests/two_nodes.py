# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A Ray cluster of two nodes on this machine, for tests and for commands.

::

    python tests/two_nodes.py COMMAND ...

runs a command with ``RAY_ADDRESS`` set, and ends as it ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["add_node", "two_nodes"]

_STARTS = 8
# Ray gives up on processes that start slowly. These are its settings for that.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_server_port_wait_time_s": "300",
    "RAY_raylet_start_wait_time_s": "60",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_timeout_ms": "60000",
    # Otherwise workers wait for whatever else this machine does.
    "RAY_worker_niceness": "0",
}
os.environ.update(_SETTINGS)


def _node_arguments() -> dict[str, int]:
    """A small node, which is told its ports: it soon gives up waiting to hear of them."""
    names = (
        *("metrics_agent_port", "metrics_export_port"),
        *("runtime_env_agent_port", "dashboard_agent_listen_port"),
    )
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        ports = {name: free.getsockname()[1] for name, free in zip(names, sockets)}
    return {"num_cpus": 1, "object_store_memory": 100 * 2**20, **ports}


def add_node(cluster: Any, **arguments: Any) -> Any:
    """Add a node, once more if it dies while it starts.

    A node waits for its agent for 15 seconds, which no setting changes.
    """
    for left in reversed(range(_STARTS)):
        try:
            node = cluster.add_node(wait=False, **arguments, **_node_arguments())
            cluster.wait_for_nodes(timeout=120)
            return node
        except Exception as error:
            print(f"a node did not start: {error}", file=sys.stderr)
            for node in cluster.list_all_nodes():
                if node.dead_processes():
                    cluster.remove_node(node, allow_graceful=False)
            if not left:
                raise
    raise AssertionError


@contextlib.contextmanager
def two_nodes() -> Iterator[Any]:
    """The cluster while it runs; ``second`` of it is the node that may be lost."""
    from ray.cluster_utils import Cluster

    # So that agents start fast, what they import is in the cache of the disk, and nothing starts
    # beside them that can be done without.
    modules = (
        "ray.dashboard.utils as u, ray.dashboard.agent; u.get_all_modules(u.DashboardAgentModule)"
    )
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True, capture_output=True)
    cluster = Cluster()
    try:
        add_node(cluster, include_dashboard=False, include_log_monitor=False, no_monitor=True)
        cluster.second = add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    with two_nodes() as started:
        environment = {**os.environ, "RAY_ADDRESS": started.address}
        done = subprocess.run(sys.argv[1:], env=environment, check=False)
    sys.exit(done.returncode)
