"""Clients with keys: the examples of docs/clients.md, and what sockets of libzmq see when they are refused.

The brokers are the examples `curve_echo` and `zmtp_echo` of mdp-transport: they send every message back, which
makes a request of 7/MDP its own reply."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from broker import PATIENCE_S, ROOT
from test_transport import Echo, example

EXAMPLES = ROOT / "docs" / "examples"
WARNINGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
# The only key that `curve_echo` admits, its own, and one that it does not know.
ADMITTED, SERVER, STRANGER = 3, 1, 4
MECHANISM_MISMATCH = 0x11000002
# A socket that comes back does so after 100 ms, several times in this time.
WATCHED_S = 2.0


def pair(number):
    """The public and the secret key of 32 equal bytes."""
    secret = z85.encode(bytes([number]) * 32)
    return zmq.curve_public(secret).decode(), secret.decode()


class Port(unittest.TestCase):
    """A test with a broker of its own that has keys, or none."""

    def broker(self, name="curve_echo"):
        """Starts a broker. Returns it, and where it listens."""
        echo = Echo(name=name)
        self.addCleanup(echo.stop)
        return echo, "tcp://" + echo.line().removeprefix("listening on ")


class ExamplesOfALanguage:
    """What the examples of each language show."""

    @classmethod
    def command(cls):
        raise NotImplementedError

    def key_file(self, number, has_secret):
        """A file as `majordomo keygen`, czmq and pyzmq write it."""
        public, secret = pair(number)
        path = pathlib.Path(self.folder.name) / f"{number}.key{'_secret' * has_secret}"
        lines = ["metadata", "curve", f'    public-key = "{public}"']
        lines += [f'    secret-key = "{secret}"'] * has_secret
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def call(self, endpoint, own=ADMITTED, server=SERVER):
        keys = [self.key_file(own, True), self.key_file(server, False)]
        command = [*self.command(), endpoint, *keys, "echo", "hello"]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)

    def test_client_with_keys_is_answered(self):
        _, endpoint = self.broker()
        ended = self.call(endpoint)
        self.assertEqual((ended.stdout, ended.returncode), ("hello\n", 0), ended.stderr)

    def test_key_that_is_not_admitted_is_said_so(self):
        _, endpoint = self.broker()
        ended = self.call(endpoint, own=STRANGER)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("not admitted", ended.stderr)

    def test_broker_with_another_key_is_said_so(self):
        _, endpoint = self.broker()
        ended = self.call(endpoint, server=STRANGER)
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, "broker's public key|[Ww]rong ?[Ss]erver ?[Kk]ey")

    def test_broker_without_keys_is_said_so(self):
        _, endpoint = self.broker("zmtp_echo")
        ended = self.call(endpoint)
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, "[Ww]rong ?[Mm]echanism")


class PythonExampleTest(ExamplesOfALanguage, Port):
    """docs/examples/python."""

    @classmethod
    def command(cls):
        return [sys.executable, str(EXAMPLES / "python" / "secure_client.py")]


class CExampleTest(ExamplesOfALanguage, Port):
    """docs/examples/c, compiled as its first lines say, with all warnings."""

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.built = os.path.join(directory.name, "secure_client")
        source = str(EXAMPLES / "c" / "secure_client.c")
        subprocess.run(["cc", *WARNINGS, "-o", cls.built, source, "-lzmq"], check=True)

    @classmethod
    def command(cls):
        return [cls.built]


class RustExampleTest(ExamplesOfALanguage, Port):
    """crates/mdp-client/examples."""

    @classmethod
    def command(cls):
        return [example("secure_client")]


class RefusedSocketTest(Port):
    """What a socket of libzmq sees of each refusal, and whether it comes back by itself."""

    def setUp(self):
        self.context = zmq.Context()
        self.addCleanup(self.context.term)

    def dealer(self, endpoint, own=None, server=SERVER):
        """A DEALER that connects with these keys, or without any, and its monitor."""
        socket = self.context.socket(zmq.DEALER)
        self.addCleanup(socket.close, linger=0)
        if own is not None:
            public, secret = pair(own)
            socket.curve_publickey, socket.curve_secretkey = public.encode(), secret.encode()
            socket.curve_serverkey = pair(server)[0].encode()
        monitor = socket.get_monitor_socket(zmq.EVENT_ALL)
        self.addCleanup(monitor.close, linger=0)
        self.addCleanup(socket.disable_monitor)
        socket.connect(endpoint)
        socket.send(b"hello")
        return socket, monitor

    def failure(self, monitor):
        """The event of the failed handshake, and its value."""
        failures = (
            zmq.EVENT_HANDSHAKE_FAILED_AUTH,
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        )
        while True:
            self.assertTrue(monitor.poll(PATIENCE_S * 1000), "no handshake failed")
            event = recv_monitor_message(monitor)
            if event["event"] in failures:
                return event["event"], event["value"]

    def comes_back(self, monitor):
        """Whether the socket connects once more within a time in which it would."""
        deadline = time.monotonic() + WATCHED_S
        while monitor.poll(max(0, deadline - time.monotonic()) * 1000):
            if recv_monitor_message(monitor)["event"] == zmq.EVENT_CONNECTED:
                return True
        return False

    def assert_nothing_comes(self, socket):
        """The socket itself says nothing of all that."""
        self.assertFalse(socket.poll(0))

    def test_key_that_is_not_admitted_is_held_then_refused_and_stays_away(self):
        _, endpoint = self.broker()
        began = time.monotonic()
        socket, monitor = self.dealer(endpoint, STRANGER)

        self.assertEqual(self.failure(monitor), (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400))

        self.assertGreater(time.monotonic() - began, 2.9)
        self.assertFalse(self.comes_back(monitor))
        self.assert_nothing_comes(socket)

    def test_wrong_server_key_is_closed_at_once_and_comes_back(self):
        _, endpoint = self.broker()
        socket, monitor = self.dealer(endpoint, ADMITTED, server=STRANGER)

        self.assertEqual(self.failure(monitor)[0], zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)

        self.assertTrue(self.comes_back(monitor))
        self.assert_nothing_comes(socket)

    def test_socket_without_keys_at_a_broker_with_keys_only_stays_away(self):
        _, endpoint = self.broker()
        socket, monitor = self.dealer(endpoint)

        refusal = (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, MECHANISM_MISMATCH)
        self.assertEqual(self.failure(monitor), refusal)

        self.assertFalse(self.comes_back(monitor))
        self.assert_nothing_comes(socket)

    def test_socket_with_keys_at_a_broker_without_keys_stays_away(self):
        _, endpoint = self.broker("zmtp_echo")
        socket, monitor = self.dealer(endpoint, ADMITTED)

        refusal = (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, MECHANISM_MISMATCH)
        self.assertEqual(self.failure(monitor), refusal)

        self.assertFalse(self.comes_back(monitor))
        self.assert_nothing_comes(socket)


if __name__ == "__main__":
    unittest.main()
