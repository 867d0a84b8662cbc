"""What nodes show at /metrics, read by the strict OpenMetrics parser of Prometheus' own client."""

import json
import signal
import time
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from broker import PATIENCE_S, BrokerTest, free_addresses
from peers import SynchronousClient, Worker

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
REQUESTS = 5
"""How many requests of clients a node is given: its histograms count these and nothing else."""


def page(admin, path):
    with urllib.request.urlopen(f"http://{admin}{path}", timeout=PATIENCE_S) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


class MetricsTest(BrokerTest):
    """The parser refuses a page that breaks any rule of the format."""

    def families(self, admin):
        content_type, text = page(admin, "/metrics")
        self.assertEqual(content_type, CONTENT_TYPE)
        families = {family.name: family for family in text_string_to_metric_families(text)}
        self.assertGreater(len(families), 40)
        for family in families.values():
            # Counters are there before anything happened; what a node knows nothing of has no gauge.
            if family.type in ("counter", "histogram"):
                self.assertTrue(family.samples, family.name)
            if family.type == "histogram":
                self.check_histogram(family)
        return families

    def check_histogram(self, family):
        of_kind = lambda end: [s for s in family.samples if s.name == family.name + end]
        buckets, counts = of_kind("_bucket"), of_kind("_count")
        last = buckets[-1]
        self.assertEqual((last.labels["le"], last.value), ("+Inf", counts[0].value), family.name)

    def value(self, families, name, **labels):
        samples = [sample for family in families.values() for sample in family.samples]
        found = [s.value for s in samples if s.name == "majordomo_" + name and s.labels == labels]
        self.assertEqual(len(found), 1, f"{name} {labels}")
        return found[0]

    def load(self, endpoint):
        """Some requests, so that histograms have something to show."""
        worker = Worker(endpoint, b"echo", lambda body: [body], interval_s=0.3)
        self.addCleanup(worker.stop)
        worker.wait_until_registered()
        client = SynchronousClient(endpoint, timeout_s=PATIENCE_S, attempts=1)
        self.addCleanup(client.close)
        for _ in range(REQUESTS):
            self.assertEqual(client.call(b"echo", b"hi"), [b"hi"])
        self.assertEqual(client.call(b"mmi.service", b"echo"), [b"200"])

    def test_node_alone(self):
        (admin,) = free_addresses(1)
        broker = self.broker(admin__bind=admin)
        before = self.families(admin)
        self.assertEqual(self.value(before, "broker_request_duration_seconds_count"), 0)
        self.assertEqual(self.value(before, "broker_dropped_messages_total", reason="expired"), 0)

        self.load(broker.endpoint)

        families = self.families(admin)
        name = "broker_request_duration_seconds"
        self.assertEqual(self.value(families, name + "_count"), REQUESTS)
        self.assertEqual(self.value(families, name + "_bucket", le="+Inf"), REQUESTS)

    def test_leader_and_followers_and_a_node_that_drains(self):
        # The announcement is the time in which a page of a draining node can be read.
        cluster = self.cluster(drain__announce="10s", drain__timeout="15s")
        leader = json.loads(page(cluster.admins[0], "/api/v1/cluster")[1])["leader"]
        for endpoint in cluster.endpoints:
            self.load(endpoint)
        for node, admin in zip(cluster.nodes, cluster.admins):
            families = self.families(admin)
            is_leader = node.settings["node.name"] == leader
            self.assertEqual(self.value(families, "raft_is_leader"), is_leader)
            unheard = families["majordomo_raft_member_unheard_seconds"].samples
            # A leader counts from a moment after a quorum has answered it.
            deadline = time.monotonic() + 5
            while is_leader and not unheard and time.monotonic() < deadline:
                unheard = self.families(admin)["majordomo_raft_member_unheard_seconds"].samples
            self.assertEqual(len(unheard), 2 if is_leader else 0)
            refused = "relay_refused_links_total"
            labels = {"reason": "wrong_version", "role": "origin"}
            self.assertEqual(self.value(families, refused, **labels), 0)
            self.assertGreater(self.value(families, "raft_commit_duration_seconds_count"), 0)

        cluster.nodes[2].process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        while self.value(self.families(cluster.admins[2]), "draining") != 1:
            self.assertLess(time.monotonic(), deadline, "it does not drain")
