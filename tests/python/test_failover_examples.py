"""The examples of docs/clients.md, each in front of three nodes of which one goes away."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from broker import PATIENCE_S, ROOT, BrokerTest, environment
from peers import SynchronousClient, Worker

HEARTBEAT_MS = "300"
CLUSTER = {"broker__heartbeat_interval": HEARTBEAT_MS + "ms", "cluster__node_timeout": "2s"}
EXAMPLES = ROOT / "docs" / "examples"
WARNINGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]


class Example:
    """A running example: lines in, lines out, and what it says of its brokers."""

    def __init__(self, command, says="stderr"):
        self.process = subprocess.Popen(
            command,
            env={**environment(), "MAJORDOMO_HEARTBEAT_MS": HEARTBEAT_MS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if says == "stderr" else subprocess.DEVNULL,
            text=True,
        )
        self.lines = getattr(self.process, says)
        self.said = []
        self.heard = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.lines:
            with self.heard:
                self.said.append(line.rstrip())
                self.heard.notify_all()

    def wait_until_it_says(self, words, times=1):
        """Waits until so many lines have these words."""
        with self.heard:
            enough = lambda: sum(words in line for line in self.said) >= times
            assert self.heard.wait_for(enough, PATIENCE_S), f"not {times} x {words!r}: {self.said}"

    def ask(self, body):
        """Gives a line, and returns the line that comes back."""
        self.process.stdin.write(body + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def end(self):
        """Ends the process; returns its exit code."""
        self.process.kill()
        code = self.process.wait()
        self.reader.join()
        for stream in filter(None, (self.process.stdin, self.process.stdout, self.process.stderr)):
            stream.close()
        return code


class ExamplesTest(BrokerTest):
    """What steady peers the examples meet."""

    def started(self, example):
        self.addCleanup(example.end)
        return example

    def steady_worker(self, endpoint, service):
        """A worker at a node that stays; it tells the requests that it has had."""
        handled = []

        def handle(body):
            handled.append(body)
            return [body]

        worker = Worker(endpoint, service, handle, interval_s=0.3)
        self.addCleanup(worker.stop)
        worker.wait_until_registered()
        return handled

    def steady_client(self, endpoint):
        client = SynchronousClient(endpoint, timeout_s=PATIENCE_S, attempts=1)
        self.addCleanup(client.close)
        return client


class ExamplesOfALanguage:
    """What the examples of Python and of C show, which are alike."""

    @classmethod
    def command(cls, role):
        """How `failover_client` or `failover_worker` is started."""
        raise NotImplementedError

    def start(self, role, service, endpoints):
        return self.started(Example([*self.command(role), service, *endpoints]))

    def node_of(self, worker, cluster):
        """The node that a worker is registered at, which it chooses at random."""
        worker.wait_until_it_says("registered")
        line = next(line for line in worker.said if "registered" in line)
        return cluster.nodes[cluster.endpoints.index(line.split()[-1])]

    def test_client_goes_on_at_the_next_node(self):
        cluster = self.cluster(**CLUSTER)
        first, second, third = cluster.endpoints
        handled = self.steady_worker(third, b"echo")
        client = self.start("failover_client", "echo", [first, second, third])
        self.assertEqual(client.ask("before"), "before")
        self.assertEqual(client.said, [])

        cluster.nodes[0].stop()

        self.assertEqual(client.ask("after"), "after")
        self.assertEqual(client.ask("and on"), "and on")
        # Nothing was asked twice but what was under way, and that at most.
        self.assertEqual([handled[0], handled[-1]], [b"before", b"and on"])
        self.assertIn(handled.count(b"after"), (1, 2))

    def test_worker_goes_on_at_the_next_node(self):
        cluster = self.cluster(**CLUSTER)
        first, second, third = cluster.endpoints
        worker = self.start("failover_worker", "echo", [first, second])
        node = self.node_of(worker, cluster)
        client = self.steady_client(third)
        self.assertEqual(client.call(b"echo", b"before"), [b"before"])

        node.stop()
        worker.wait_until_it_says("registered", times=2)

        self.assertEqual(client.call(b"echo", b"after", b"more"), [b"after", b"more"])

    def test_worker_that_is_sent_away_goes_on_at_once(self):
        # So long that it can only be DISCONNECT that tells the worker.
        cluster = self.cluster(broker__heartbeat_interval="10s", cluster__node_timeout="2s")
        first, second, third = cluster.endpoints
        worker = self.start("failover_worker", "echo", [first, second])
        node = self.node_of(worker, cluster)

        node.process.send_signal(signal.SIGTERM)
        worker.wait_until_it_says("registered", times=2)

        self.assertEqual(node.process.wait(PATIENCE_S), 0)
        self.assertEqual(self.steady_client(third).call(b"echo", b"x"), [b"x"])

    def test_worker_says_goodbye(self):
        broker = self.broker()
        worker = self.start("failover_worker", "echo", [broker.endpoint])
        worker.wait_until_it_says("registered")
        client = self.steady_client(broker.endpoint)
        self.assertEqual(client.call(b"mmi.service", b"echo"), [b"200"])

        worker.process.send_signal(signal.SIGTERM)
        self.assertEqual(worker.process.wait(PATIENCE_S), 0)

        # Far sooner than 2.5 s x 3, after which silence would tell.
        deadline = time.monotonic() + 2
        while client.call(b"mmi.service", b"echo") != [b"404"]:
            self.assertLess(time.monotonic(), deadline)


class PythonExamplesTest(ExamplesOfALanguage, ExamplesTest):
    """docs/examples/python."""

    @classmethod
    def command(cls, role):
        return [sys.executable, str(EXAMPLES / "python" / f"{role}.py")]

    def test_worker_goes_on_after_a_request_that_its_handler_fails_at(self):
        broker = self.broker()
        program = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from failover_worker import FailoverWorker\n"
            "def handle(request):\n"
            "    if request == [b'poison']: raise ValueError('not to be eaten')\n"
            "    return request\n"
            "FailoverWorker([sys.argv[2]], b'echo', 0.3).run(handle)\n"
        )
        endpoint = broker.endpoint.removeprefix("tcp://")
        command = [sys.executable, "-c", program, str(EXAMPLES / "python"), endpoint]
        worker = self.started(Example(command))
        worker.wait_until_it_says("registered")
        client = self.steady_client(broker.endpoint)

        self.assertEqual(client.call(b"echo", b"poison"), [b""])

        worker.wait_until_it_says("not to be eaten")
        self.assertEqual(client.call(b"echo", b"food"), [b"food"])
        self.assertIsNone(worker.process.poll())


class CExamplesTest(ExamplesOfALanguage, ExamplesTest):
    """docs/examples/c, compiled as their first lines say, with all warnings."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.directory.cleanup)
        for source in (EXAMPLES / "c").glob("*.c"):
            built = os.path.join(cls.directory.name, source.stem)
            subprocess.run(["cc", *WARNINGS, "-o", built, str(source), "-lzmq"], check=True)

    @classmethod
    def command(cls, role):
        return [os.path.join(cls.directory.name, role)]


class RustExamplesTest(ExamplesTest):
    """crates/mdp-client/examples: the client asks twice a second by itself, for "echo"."""

    BUILT = pathlib.Path(os.environ.get("MAJORDOMO_EXAMPLES", ROOT / "target/debug/examples"))

    def start(self, role, endpoints):
        return self.started(Example([str(self.BUILT / role), ",".join(endpoints)], says="stdout"))

    def node_with_the_worker(self, client, cluster):
        """The node that the worker has chosen, of those that it was given."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.assertLess(time.monotonic(), deadline)
            _, page = client.call(b"mmi.directory", b"")
            services = json.loads(page)["services"]
            if services:
                self.assertEqual([len(services), services[0]["name"]], [1, "echo"])
                return cluster.nodes[int(services[0]["nodes"][0].removeprefix("node-")) - 1]

    def test_client_goes_on_at_another_node(self):
        cluster = self.cluster(cluster__node_timeout="2s")
        first, second, third = cluster.endpoints
        self.steady_worker(third, b"echo")
        client = self.start("failover_client", [first, second])
        client.wait_until_it_says(f": {first} (attempt")

        cluster.nodes[0].stop()

        client.wait_until_it_says(f": {second} (attempt", times=2)

    def test_worker_goes_on_at_another_node(self):
        cluster = self.cluster(cluster__node_timeout="2s")
        first, second, third = cluster.endpoints
        self.start("failover_worker", [first, second])
        client = self.steady_client(third)
        node = self.node_with_the_worker(client, cluster)
        self.assertEqual(client.call(b"echo", b"before"), [b"before"])

        node.stop()

        self.assertEqual(client.call(b"echo", b"after", b"more"), [b"after", b"more"])

    def test_worker_that_is_sent_away_goes_on_at_another_node(self):
        cluster = self.cluster(cluster__node_timeout="2s")
        first, second, third = cluster.endpoints
        worker = self.start("failover_worker", [first, second])
        client = self.steady_client(third)
        node = self.node_with_the_worker(client, cluster)
        # A worker that got a request knows that it is registered.
        self.assertEqual(client.call(b"echo", b"before"), [b"before"])

        node.process.send_signal(signal.SIGTERM)

        self.assertEqual(node.process.wait(PATIENCE_S), 0)
        self.assertEqual(client.call(b"echo", b"after"), [b"after"])
        # Enter ends it.
        worker.process.stdin.write("\n")
        worker.process.stdin.flush()
        self.assertEqual(worker.process.wait(PATIENCE_S), 0)
        worker.wait_until_it_says("2 registrations, 2 replies")


if __name__ == "__main__":
    unittest.main()
