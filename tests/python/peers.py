"""Peers that behave as the reference peers of the ZeroMQ Guide do, written anew.

Times are parameters with the reference values as defaults.
"""

import threading
import time

import zmq

CLIENT = b"MDPC01"
WORKER = b"MDPW01"
READY, REQUEST, REPLY, HEARTBEAT, DISCONNECT = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"


class SynchronousClient:
    """REQ; on a timeout it closes its socket, connects anew, and sends the request again."""

    def __init__(self, endpoint, timeout_s=2.5, attempts=3):
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.attempts = attempts
        self.context = zmq.Context()
        self.socket = None
        self.attempted = 0
        self.on_attempt = lambda attempt: None
        self._connect()

    def _connect(self):
        if self.socket is not None:
            self.socket.close(linger=0)
        self.socket = self.context.socket(zmq.REQ)
        self.socket.connect(self.endpoint)

    def call(self, service, *body):
        """The reply's body frames, or None when every attempt was in vain."""
        for attempt in range(1, self.attempts + 1):
            self.attempted = attempt
            self.on_attempt(attempt)
            self.socket.send_multipart([CLIENT, service, *body])
            if self.socket.poll(self.timeout_s * 1000):
                frames = self.socket.recv_multipart()
                assert len(frames) >= 3, frames
                assert frames[0] == CLIENT, frames
                assert frames[1] == service, frames
                return frames[2:]
            self._connect()
        return None

    def close(self):
        self.socket.close(linger=0)
        self.context.term()


class AsynchronousClient:
    """DEALER; sends as it likes, reads as it likes, never tries again."""

    def __init__(self, endpoint, timeout_s=2.5):
        self.timeout_s = timeout_s
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.connect(endpoint)

    def send(self, service, *body):
        self.socket.send_multipart([b"", CLIENT, service, *body])

    def recv(self):
        """The next reply's service and body frames, or None."""
        if not self.socket.poll(self.timeout_s * 1000):
            return None
        frames = self.socket.recv_multipart()
        assert len(frames) >= 4, frames
        assert frames[:2] == [b"", CLIENT], frames
        return frames[2], frames[3:]

    def close(self):
        self.socket.close(linger=0)
        self.context.term()


class Worker:
    """DEALER without an identity, in a thread.

    It heartbeats only while it waits for work, so it is silent while it works. Without any message
    for `liveness` intervals it sleeps, then begins anew; after DISCONNECT it begins anew at once.
    """

    def __init__(self, endpoint, service, handle, interval_s=2.5, liveness=3, reconnect_s=2.5):
        self.endpoint = endpoint
        self.service = service
        self.handle = handle
        self.interval_s = interval_s
        self.liveness = liveness
        self.reconnect_s = reconnect_s
        self.readies = 0
        self.disconnects = 0
        self.losses = 0
        self.heard = threading.Event()
        self.leaving = threading.Event()
        self.context = zmq.Context()
        self.socket = None
        self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def wait_until_registered(self, patience_s=20.0):
        """The first frame from the broker says so; reference workers do not look."""
        assert self.heard.wait(patience_s), f"nothing heard; {self.error}"
        assert self.disconnects == 0

    def stop(self):
        """Ends without a DISCONNECT, as a reference worker's process does."""
        self.leaving.set()
        self.thread.join()
        if self.error is not None:
            raise self.error

    def _run(self):
        try:
            reply = None
            while not self.leaving.is_set():
                request = self._next_request(reply)
                if request is None:
                    break
                address, body = request
                reply = [b"", WORKER, REPLY, address, b"", *self.handle(*body)]
        except Exception as error:  # seen by stop()
            self.error = error
        finally:
            if self.socket is not None:
                self.socket.close(linger=1000)
            self.context.term()

    def _connect(self):
        if self.socket is not None:
            self.socket.close(linger=0)
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.connect(self.endpoint)
        self.socket.send_multipart([b"", WORKER, READY, self.service])
        self.readies += 1
        self.left = self.liveness
        self.heartbeat_at = time.monotonic() + self.interval_s

    def _next_request(self, reply):
        if self.socket is None:
            self._connect()
        if reply is not None:
            self.socket.send_multipart(reply)
        silent_until = time.monotonic() + self.interval_s
        while not self.leaving.is_set():
            # In slices, so that the thread can be ended.
            if self.socket.poll(min(self.interval_s * 1000, 50)):
                silent_until = time.monotonic() + self.interval_s
                self.left = self.liveness
                request = self._on_message(self.socket.recv_multipart())
                if request is not None:
                    return request
            elif time.monotonic() >= silent_until:
                silent_until = time.monotonic() + self.interval_s
                self.left -= 1
                if self.left == 0:
                    self.losses += 1
                    if self.leaving.wait(self.reconnect_s):
                        return None
                    self._connect()
            if time.monotonic() >= self.heartbeat_at:
                self.socket.send_multipart([b"", WORKER, HEARTBEAT])
                self.heartbeat_at = time.monotonic() + self.interval_s
        return None

    def _on_message(self, frames):
        assert len(frames) >= 3, frames
        assert frames[:2] == [b"", WORKER], frames
        command = frames[2]
        if command == DISCONNECT:
            self.disconnects += 1
            self.heard.set()
            self._connect()
            return None
        self.heard.set()
        if command == REQUEST:
            assert len(frames) >= 6 and frames[4] == b"", frames
            return frames[3], frames[5:]
        assert command == HEARTBEAT and len(frames) == 3, frames
        return None
