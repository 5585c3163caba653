# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Holdfast authors
"""fleet/prometheus with three nodes: timer and node_exporter on each node, and Prometheus on this machine."""

import pytest

from harness.events import wait_until
from harness.prometheus import Prometheus
from lab import base
from lab.clock import timed

SERVICE = "nvidia-persistenced.service"
TIMER = "holdfast-metrics.timer"
GPUS = 2
# Every second instead of every minute, and on all nodes at once.
SOON = "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\nRandomizedDelaySec=0\n"


@pytest.fixture
def nodes(lab):
    """Three nodes that hold their GPUs and export metrics through node_exporter."""
    nodes = lab.boot(3, packages=base.FLEET)
    for node in nodes:
        node.simulate(gpus=GPUS).install()
        node.write(f"/etc/systemd/system/{TIMER}.d/soon.conf", SOON)
        node.exec("systemctl", "daemon-reload")
        node.exec("systemctl", "enable", "--now", SERVICE, TIMER)
    yield nodes
    for node in nodes:
        node.remove()


def target(node):
    return f"{node.address}:9100"


@pytest.fixture
def prometheus(lab, nodes, tmp_path):
    server = Prometheus(tmp_path, [target(node) for node in nodes], interval="1s", prefix=lab.prefix)
    try:
        server.wait_listening().wait_ready()
        yield server
    finally:
        server.stop()


def test_an_alert_names_the_node_whose_daemon_stopped_and_ends_when_it_runs(nodes, prometheus):
    def held():
        return prometheus.value("job:holdfast_gpu_held:sum")

    def firing():
        return prometheus.firing("instance")

    # An alert may fire until every node has written its metrics.
    wait_until(lambda: (held(), prometheus.value("job:holdfast_up:count"), firing()) == (3 * GPUS, 3, set()),
               "each GPU of each node is counted, and no alert", timeout=60)

    ill = nodes[1]
    ill.exec("systemctl", "stop", SERVICE)
    with timed("from a daemon's stop to the alert (after 1 s)"):
        wait_until(lambda: ("HoldfastDown", target(ill)) in firing(), "the alert", timeout=60)
    assert firing() == {("HoldfastDown", target(ill))}, "one problem causes one alert"
    assert held() == 2 * GPUS

    ill.exec("systemctl", "start", SERVICE)
    with timed("from its start to the alert's end"):
        wait_until(lambda: firing() == set() and held() == 3 * GPUS, "no alert, and all GPUs counted", timeout=60)
