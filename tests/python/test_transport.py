"""Sockets of pyzmq, with heartbeats of ZMTP every 5 ms, and the broker's own transport (mdp-transport).

The other end is its example `zmtp_echo`, which sends every message back, or `curve_echo`, the same with CURVE."""

import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
import unittest

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from broker import PATIENCE_S, ROOT

HEARTBEAT_MS = 5
SIZES = (0, 1, 254, 255, 256, 257, 4_095, 4_096, 4_097, 16_383, 16_384, 16_385)
SIZES += (65_535, 65_536, 65_537, 1_000_000)
SHAPES = [(size,) for size in SIZES] + [(0, size, 0) for size in SIZES]
SHAPES += [SIZES, (0,) * 1_000, (0, 6, 4, 64)]
PIPELINED = 5_000
FROZEN_CLIENT = """
import sys, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.set(zmq.HEARTBEAT_IVL, 5)
socket.set(zmq.HEARTBEAT_TTL, 300)
socket.set(zmq.HEARTBEAT_TIMEOUT, 20_000)
socket.connect(sys.argv[1])
socket.send(b"hi")
socket.recv()
# A hundred PINGs: the first one says the TTL.
socket.poll(500)
print("echoed", flush=True)
socket.recv()
"""


def example(name):
    """One of the examples, as the build of the tests made it."""
    folder = os.environ.get("MAJORDOMO_EXAMPLES", ROOT / "target/debug/examples")
    return str(pathlib.Path(folder) / name)


def message(shape):
    return [bytes(at % 251 for at in range(size)) for size in shape]


class Echo:
    """A running `zmtp_echo` or `curve_echo`, and what it prints."""

    def __init__(self, *arguments, name="zmtp_echo"):
        command = [example(name), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.decode().rstrip())

    def line(self):
        return self.lines.get(timeout=PATIENCE_S)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


class TransportTest(unittest.TestCase):
    def setUp(self):
        self.context = zmq.Context()
        self.addCleanup(self.context.term)

    def echo(self, *arguments, name="zmtp_echo"):
        echo = Echo(*arguments, name=name)
        self.addCleanup(echo.stop)
        return echo

    def listening(self, name="zmtp_echo"):
        """An echo that listens, and where."""
        echo = self.echo(name=name)
        return echo, "tcp://" + echo.line().removeprefix("listening on ")

    def socket(self, kind, timeout_ms=int(PATIENCE_S * 1000)):
        socket = self.context.socket(kind)
        self.addCleanup(socket.close, linger=0)
        socket.set(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        socket.set(zmq.SNDTIMEO, int(PATIENCE_S * 1000))
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
        socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.set(zmq.HEARTBEAT_TIMEOUT, timeout_ms)
        socket.set(zmq.HEARTBEAT_TTL, timeout_ms)
        return socket

    def monitor(self, socket, events=zmq.EVENT_DISCONNECTED):
        monitor = socket.get_monitor_socket(events)
        self.addCleanup(monitor.close, linger=0)
        self.addCleanup(socket.disable_monitor)
        return monitor

    def disconnections(self, monitor):
        count = 0
        while monitor.poll(0):
            count += recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED
        return count

    def send_shapes(self, socket, address=()):
        for shape in SHAPES:
            socket.send_multipart([*address, *message(shape)])
            self.assertTrue(socket.recv_multipart() == [*address, *message(shape)], shape)

    def test_dealer(self):
        _, endpoint = self.listening()
        socket = self.socket(zmq.DEALER)
        monitor = self.monitor(socket)
        socket.connect(endpoint)

        self.send_shapes(socket)

        self.assertEqual(self.disconnections(monitor), 0)

    def test_req(self):
        _, endpoint = self.listening()
        socket = self.socket(zmq.REQ)
        monitor = self.monitor(socket)
        socket.connect(endpoint)

        self.send_shapes(socket)

        self.assertEqual(self.disconnections(monitor), 0)

    def curve_client(self, number):
        """A DEALER with a key of 32 equal bytes, that knows the server's: 32 bytes 1."""
        socket = self.socket(zmq.DEALER)
        secret = z85.encode(bytes([number]) * 32)
        socket.curve_secretkey = secret
        socket.curve_publickey = zmq.curve_public(secret)
        socket.curve_serverkey = zmq.curve_public(z85.encode(bytes([1]) * 32))
        return socket

    def test_curve_dealer(self):
        _, endpoint = self.listening("curve_echo")
        socket = self.curve_client(3)
        monitor = self.monitor(socket)
        socket.connect(endpoint)

        self.send_shapes(socket)

        self.assertEqual(self.disconnections(monitor), 0)

    def test_curve_key_that_is_not_admitted_is_refused_by_name(self):
        echo, endpoint = self.listening("curve_echo")
        socket = self.curve_client(4)
        monitor = self.monitor(socket, zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        socket.connect(endpoint)

        self.assertEqual(echo.line(), "ended: the peer's key is not admitted here")
        self.assertTrue(monitor.poll(PATIENCE_S * 1000))
        self.assertEqual(recv_monitor_message(monitor)["value"], 400)

    def test_curve_router_that_is_dialled(self):
        socket = self.socket(zmq.ROUTER)
        socket.curve_server = True
        socket.curve_secretkey = z85.encode(bytes([1]) * 32)
        monitor = self.monitor(
            socket, zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED
        )
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        self.echo(f"127.0.0.1:{port}", name="curve_echo")

        self.assertTrue(monitor.poll(PATIENCE_S * 1000))
        event = recv_monitor_message(monitor)["event"]
        self.assertEqual(event, zmq.EVENT_HANDSHAKE_SUCCEEDED)

    def test_router_that_is_dialled(self):
        socket = self.socket(zmq.ROUTER)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        monitor = self.monitor(
            socket, zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED
        )
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        self.echo(f"127.0.0.1:{port}")
        self.assertTrue(monitor.poll(PATIENCE_S * 1000))
        event = recv_monitor_message(monitor)["event"]
        self.assertEqual(event, zmq.EVENT_HANDSHAKE_SUCCEEDED)

        self.wait_until_routable(socket)
        self.send_shapes(socket, (b"echo",))

        self.assertEqual(self.disconnections(monitor), 0)

    def wait_until_routable(self, socket):
        """The socket knows the routing id a moment after the handshake."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.send_multipart([b"echo", b"are you there"])
                break
            except zmq.ZMQError as error:
                self.assertEqual(error.errno, zmq.EHOSTUNREACH)
                self.assertLess(time.monotonic(), deadline)
                # The socket itself works when it is asked for something.
                socket.poll(1)
        self.assertEqual(socket.recv_multipart(), [b"echo", b"are you there"])

    def test_pipelined_messages_come_back_in_their_order_with_heartbeats_between_them(self):
        _, endpoint = self.listening()
        socket = self.socket(zmq.DEALER)
        monitor = self.monitor(socket)
        socket.connect(endpoint)
        size = lambda number: SIZES[number % 12]

        for number in range(PIPELINED):
            socket.send_multipart([b"%d" % number, bytes(size(number))])

        for number in range(PIPELINED):
            expected = [b"%d" % number, bytes(size(number))]
            self.assertTrue(socket.recv_multipart() == expected, number)
        self.assertEqual(self.disconnections(monitor), 0)

    def test_idle_connection_stays(self):
        _, endpoint = self.listening()
        # A time-out that both sides' PINGs would have to miss a hundred times.
        socket = self.socket(zmq.DEALER, timeout_ms=2000)
        monitor = self.monitor(socket)
        socket.connect(endpoint)
        socket.send(b"hi")
        socket.recv()

        self.assertFalse(monitor.poll(4500), "it was closed")

        socket.send(b"still here")
        self.assertEqual(socket.recv(), b"still here")

    def test_peer_that_is_frozen_is_missed_and_served_again(self):
        echo, endpoint = self.listening()
        socket = self.socket(zmq.DEALER, timeout_ms=200)
        monitor = self.monitor(socket)
        socket.connect(endpoint)
        socket.send(b"hi")
        socket.recv()

        echo.process.send_signal(signal.SIGSTOP)
        self.assertTrue(monitor.poll(PATIENCE_S * 1000), "no PONG, and nothing is missed")
        echo.process.send_signal(signal.SIGCONT)

        # What was sent while nothing was connected waits for the next connection.
        socket.send(b"again")
        self.assertEqual(socket.recv(), b"again")

    def test_ttl_of_a_client_that_is_frozen_ends_its_connection(self):
        echo, endpoint = self.listening()
        command = [sys.executable, "-c", FROZEN_CLIENT, endpoint]
        client = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.addCleanup(client.stdout.close)
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        self.assertEqual(client.stdout.readline(), b"echoed\n")

        client.send_signal(signal.SIGSTOP)

        ending = "ended: the peer was silent for longer than it promised (its PING's TTL)"
        self.assertEqual(echo.line(), ending)


if __name__ == "__main__":
    unittest.main()
