"""Clients that behave as the Guide's."""

import threading
import time
import unittest

from broker import SOAK, BrokerTest
from peers import AsynchronousClient, SynchronousClient, Worker


def echo(*body):
    return body


class SynchronousClientTest(BrokerTest):
    """REQ, 3 attempts of 2.5 s, a new socket for each."""

    def client(self, broker, **options):
        client = SynchronousClient(broker.endpoint, **options)
        self.addCleanup(client.close)
        return client

    def worker(self, broker, service, handle=echo, **options):
        worker = Worker(broker.endpoint, service, handle, **options)
        self.addCleanup(worker.stop)
        return worker

    def test_call_is_answered_at_the_first_attempt(self):
        broker = self.broker()
        self.worker(broker, b"echo").wait_until_registered()
        client = self.client(broker)

        for body in ([b"hello"], [b""], [b"a", b"", b"c"]):
            self.assertEqual(client.call(b"echo", *body), body)
            self.assertEqual(client.attempted, 1)

    def test_service_without_worker_costs_three_attempts(self):
        broker = self.broker()
        client = self.client(broker)
        started = time.monotonic()

        self.assertIsNone(client.call(b"absent", b"hello"))

        self.assertEqual(client.attempted, 3)
        self.assertGreaterEqual(time.monotonic() - started, 7.5)
        # The copies that wait are answered to sockets that are gone: that harms nobody.
        self.worker(broker, b"absent").wait_until_registered()
        self.assertEqual(client.call(b"absent", b"again"), [b"again"])
        self.assertEqual(client.attempted, 1)

    def test_worker_that_comes_between_the_attempts_answers(self):
        broker = self.broker()
        client = self.client(broker)
        late = []

        def on_attempt(attempt):
            if attempt == 2:
                late.append(self.worker(broker, b"late"))

        client.on_attempt = on_attempt

        self.assertEqual(client.call(b"late", b"hello"), [b"hello"])
        self.assertEqual(client.attempted, 2)

    def test_copies_of_a_request_never_answer_another(self):
        broker = self.broker()
        served = []

        def slow_once(body):
            served.append(body)
            if len(served) == 1:
                time.sleep(0.8)
            return [body + b" done"]

        self.worker(broker, b"slow", slow_once).wait_until_registered()
        client = self.client(broker, timeout_s=0.5)

        self.assertEqual(client.call(b"slow", b"1"), [b"1 done"])
        self.assertEqual(client.attempted, 2)
        self.assertEqual(client.call(b"slow", b"2"), [b"2 done"])
        self.assertEqual(served, [b"1", b"1", b"2"])

    def test_call_survives_a_restart_of_the_broker(self):
        broker = self.broker(broker__heartbeat_interval="200ms")
        self.worker(broker, b"echo", interval_s=0.2, reconnect_s=0.2).wait_until_registered()
        client = self.client(broker)
        self.assertEqual(client.call(b"echo", b"before"), [b"before"])

        def on_attempt(attempt):
            if attempt == 1:
                broker.stop()
            if attempt == 2:
                broker.start()

        client.on_attempt = on_attempt

        self.assertEqual(client.call(b"echo", b"after"), [b"after"])

    def test_management_is_asked_like_any_service(self):
        broker = self.broker()
        self.worker(broker, b"echo").wait_until_registered()
        client = self.client(broker)

        self.assertEqual(client.call(b"mmi.service", b"echo"), [b"200"])
        self.assertEqual(client.call(b"mmi.service", b"absent"), [b"404"])
        self.assertEqual(client.call(b"mmi.absent", b"echo"), [b"501"])


class AsynchronousClientTest(BrokerTest):
    """DEALER, everything sent before the first reply is read."""

    def test_all_requests_are_answered_in_order(self):
        count = 100_000 if SOAK else 10_000
        broker = self.broker()
        worker = Worker(broker.endpoint, b"echo", echo)
        self.addCleanup(worker.stop)
        worker.wait_until_registered()
        client = AsynchronousClient(broker.endpoint, timeout_s=20)
        self.addCleanup(client.close)

        for number in range(count):
            client.send(b"echo", b"%d" % number)

        for number in range(count):
            self.assertEqual(client.recv(), (b"echo", [b"%d" % number]))
        self.assertEqual((worker.readies, worker.disconnects), (1, 0))

    def test_two_clients_are_answered_apart(self):
        broker = self.broker()
        worker = Worker(broker.endpoint, b"echo", echo)
        self.addCleanup(worker.stop)
        worker.wait_until_registered()

        def run(name):
            client = AsynchronousClient(broker.endpoint, timeout_s=20)
            try:
                for number in range(1_000):
                    client.send(b"echo", b"%s %d" % (name, number))
                return [client.recv() for _ in range(1_000)]
            finally:
                client.close()

        results = {}
        threads = [
            threading.Thread(target=lambda name=name: results.update({name: run(name)}))
            for name in (b"a", b"b")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        for name in (b"a", b"b"):
            expected = [(b"echo", [b"%s %d" % (name, number)]) for number in range(1_000)]
            self.assertEqual(results.get(name), expected)


if __name__ == "__main__":
    unittest.main()
