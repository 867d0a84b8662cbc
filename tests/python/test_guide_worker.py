"""Workers that behave as the Guide's."""

import threading
import time
import unittest

import zmq

from broker import PATIENCE_S, BrokerTest
from peers import (
    DISCONNECT,
    HEARTBEAT,
    READY,
    WORKER,
    AsynchronousClient,
    SynchronousClient,
    Worker,
)

FAST = {"broker__heartbeat_interval": "200ms"}
"""With liveness 3 an idle worker may be silent for 600 ms, and 250 ms of grace."""


class GuideWorkerTest(BrokerTest):
    """DEALER, heartbeats only while it waits."""

    def client(self, broker, **options):
        client = SynchronousClient(broker.endpoint, **options)
        self.addCleanup(client.close)
        return client

    def worker(self, broker, service, handle, interval_s=0.2, **options):
        worker = Worker(broker.endpoint, service, handle, interval_s=interval_s, **options)
        self.addCleanup(worker.stop)
        return worker

    def wait_for(self, client, service, code):
        deadline = time.monotonic() + PATIENCE_S
        while client.call(b"mmi.service", service) != [code]:
            self.assertLess(time.monotonic(), deadline, f"never {code}")
            threading.Event().wait(0.02)

    def test_worker_is_silent_while_it_works(self):
        broker = self.broker(**FAST)
        handled = []

        def long_job(body):
            handled.append(body)
            # Three times as long as an idle worker may be silent.
            time.sleep(2.5)
            return [b"done"]

        worker = self.worker(broker, b"slow", long_job)
        worker.wait_until_registered()
        client = self.client(broker, timeout_s=10)

        for body in (b"1", b"2"):
            self.assertEqual(client.call(b"slow", body), [b"done"])
            self.assertEqual(client.call(b"mmi.service", b"slow"), [b"200"])

        self.assertEqual(handled, [b"1", b"2"])
        self.assertEqual((worker.readies, worker.disconnects, worker.losses), (1, 0, 0))

    def test_refused_worker_that_returns_without_delay_is_slowed_down(self):
        broker = self.broker()
        refused = self.worker(broker, b"mmi.mine", lambda *body: body)
        self.assertTrue(refused.heard.wait(PATIENCE_S))

        threading.Event().wait(3.0)

        # Ten at once, ten more a second, then one for each 250 ms.
        self.assertGreaterEqual(refused.disconnects, 10)
        self.assertLessEqual(refused.disconnects, 60)
        client = self.client(broker)
        self.assertEqual(client.call(b"mmi.service", b"mmi.mine"), [b"404"])

    def test_worker_that_was_told_to_go_returns_at_once(self):
        broker = self.broker(**FAST)
        worker = self.worker(broker, b"echo", lambda *body: body)
        worker.wait_until_registered()
        client = self.client(broker)

        def introduce_itself_again(*_body):
            worker.handle = lambda *_body: [b"second try"]
            worker.socket.send_multipart([b"", WORKER, READY, b"echo"])
            return [b"first try"]

        worker.handle = introduce_itself_again
        asynchronous = AsynchronousClient(broker.endpoint, timeout_s=PATIENCE_S)
        self.addCleanup(asynchronous.close)
        asynchronous.send(b"echo", b"hello")

        # The second READY gets DISCONNECT, the reply behind it comes from a stranger; the
        # worker returns and gets the request again.
        self.assertEqual(asynchronous.recv(), (b"echo", [b"second try"]))
        self.assertEqual((worker.readies, worker.disconnects), (2, 1))
        self.assertEqual(client.call(b"mmi.service", b"echo"), [b"200"])

    def test_worker_comes_back_after_a_restart_of_the_broker(self):
        broker = self.broker(**FAST)
        # So patient that only DISCONNECT makes it begin anew.
        worker = self.worker(broker, b"echo", lambda *body: body, liveness=10_000)
        worker.wait_until_registered()

        broker.restart()

        client = self.client(broker)
        self.wait_for(client, b"echo", b"200")
        self.assertEqual(client.call(b"echo", b"hello"), [b"hello"])
        self.assertEqual((worker.readies, worker.disconnects, worker.losses), (2, 1, 0))

    def test_worker_reconnects_when_the_broker_is_silent(self):
        broker = self.broker(**FAST)
        worker = self.worker(broker, b"echo", lambda *body: body, reconnect_s=0.2)
        worker.wait_until_registered()

        broker.stop()
        deadline = time.monotonic() + PATIENCE_S
        while worker.losses == 0:
            self.assertLess(time.monotonic(), deadline)
            threading.Event().wait(0.02)
        broker.start()

        client = self.client(broker)
        self.wait_for(client, b"echo", b"200")
        self.assertEqual(client.call(b"echo", b"hello"), [b"hello"])

    def test_worker_that_ends_without_a_word_is_missed(self):
        broker = self.broker(**FAST)
        worker = Worker(broker.endpoint, b"echo", lambda *body: body, interval_s=0.2)
        worker.wait_until_registered()
        client = self.client(broker)
        self.assertEqual(client.call(b"mmi.service", b"echo"), [b"200"])

        worker.stop()

        self.wait_for(client, b"echo", b"404")

    def test_quicker_worker_does_not_flap(self):
        broker = self.broker(broker__heartbeat_interval="500ms")
        # Another library's times, at a fifth: 200 ms x 5.
        worker = self.worker(broker, b"echo", lambda *body: body, liveness=5)
        worker.wait_until_registered()

        threading.Event().wait(3.0)

        self.assertEqual((worker.readies, worker.disconnects, worker.losses), (1, 0, 0))

    def test_disconnect_without_the_empty_frame_ends_the_registration(self):
        broker = self.broker()
        client = self.client(broker)
        context = zmq.Context()
        socket = context.socket(zmq.DEALER)
        self.addCleanup(context.term)
        self.addCleanup(socket.close, linger=0)
        socket.connect(broker.endpoint)
        socket.send_multipart([b"", WORKER, READY, b"echo"])
        self.assertTrue(socket.poll(PATIENCE_S * 1000))
        self.assertEqual(socket.recv_multipart(), [b"", WORKER, HEARTBEAT])

        socket.send_multipart([WORKER, DISCONNECT])

        self.wait_for(client, b"echo", b"404")


if __name__ == "__main__":
    unittest.main()
