"""A cluster of Ray with two nodes on this machine, in processes of its own: `python ray_cluster.py`.

It prints its address and its nodes as a line of JSON, and ends when its input does. Ray itself is not imported by who
uses it: it would start threads there, and read its settings from the environment once and for all.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import psutil


class Node(NamedTuple):
    """A node of the cluster.

    Attributes:
        raylet: The process that all others of the node are started by.
        metrics_port: Where Prometheus reads its figures.
    """

    raylet: psutil.Process
    metrics_port: int

    @property
    def replicas(self) -> list[psutil.Process]:
        """Processes of replicas of Ray Serve."""
        return [each for each in self.raylet.children() if _title(each).startswith("ray::ServeReplica")]


@contextlib.contextmanager
def running_cluster() -> Iterator[tuple[dict[str, str], list[Node]]]:
    """Run a cluster; gives the environment variables that lead to it, and its nodes."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # whoever is on this machine might use it otherwise
        "RAY_metrics_report_interval_ms": "500",
    }
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **settings},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        nodes = [Node(psutil.Process(pid), port) for pid, port in said["nodes"]]
        yield {**settings, "RAY_ADDRESS": said["address"]}, nodes
    finally:
        process.stdin.close()
        process.wait(120)


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""


def main() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        nodes: list[Any] = [cluster.add_node(num_cpus=1, include_dashboard=False) for _ in range(2)]
        known = [(node.all_processes["raylet"][0].process.pid, node.metrics_export_port) for node in nodes]
        print(json.dumps({"address": cluster.address, "nodes": known}), flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
