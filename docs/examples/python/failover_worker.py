#!/usr/bin/env python3
"""A worker of 7/MDP that goes on when its broker is lost, or sends it away. It echoes.

    failover_worker.py SERVICE ENDPOINT...

`tcp://` may be left out. MAJORDOMO_HEARTBEAT_MS is the interval of heartbeats, 2500 as the broker's. Needs pyzmq.
"""

import logging
import os
import random
import signal
import sys
import time

import zmq

WORKER = b"MDPW01"
READY, REQUEST, REPLY, HEARTBEAT, DISCONNECT = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
PAUSE_MIN_S, PAUSE_MAX_S = 0.1, 10.0


class FailoverWorker:
    """Offers a service at one broker of several, and at another one when that is lost.

    It chooses at random: workers that all begin with the same broker are all lost with it.

    It sends no heartbeats while it works on a request; the broker knows that such workers exist.
    """

    def __init__(self, endpoints, service, heartbeat_s=2.5, liveness=3):
        self.endpoints = [e if "://" in e else f"tcp://{e}" for e in endpoints]
        self.service = service
        self.heartbeat_s = heartbeat_s
        self.silence_max_s = heartbeat_s * liveness
        self.context = zmq.Context.instance()
        self.socket = None

    def run(self, handle):
        """Serves for ever: `handle` is given the frames of a request and returns those of a reply."""
        pause_s = PAUSE_MIN_S
        endpoint = None
        while True:
            others = [other for other in self.endpoints if other != endpoint]
            endpoint = random.choice(others or self.endpoints)
            if self._serve(endpoint, handle):
                # It was a good broker, which leaves or died: the next one is good, too.
                pause_s = PAUSE_MIN_S
            else:
                # No broker there, or none that takes us now: ask less and less often.
                time.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, PAUSE_MAX_S)

    def leave(self):
        """Says goodbye, so that the broker does not wait for our heartbeats."""
        if self.socket is not None:
            self._send(DISCONNECT)
            self.socket.close(linger=1000)

    def _serve(self, endpoint, handle):
        """One connection, from READY to its end: whether the broker had taken us."""
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.connect(endpoint)
        self._send(READY, self.service)
        registered = False
        alive_until = time.monotonic() + self.silence_max_s
        while True:
            request = None
            wait_s = min(self.heartbeat_at, alive_until) - time.monotonic()
            if self.socket.poll(max(0, wait_s) * 1000):
                _, header, command, *rest = self.socket.recv_multipart()
                if header != WORKER or command == DISCONNECT:
                    break
                if not registered:
                    # READY has no reply of its own. The first HEARTBEAT, or a REQUEST, says that
                    # every node of the cluster knows about us.
                    print(f"registered at {endpoint}", file=sys.stderr, flush=True)
                    registered = True
                if command == REQUEST:
                    address, _, *request = rest
                    self._send(REPLY, address, b"", *self._answer(handle, request))
                alive_until = time.monotonic() + self.silence_max_s
            if time.monotonic() >= alive_until:
                break
            if time.monotonic() >= self.heartbeat_at:
                self._send(HEARTBEAT)
        print(f"lost {endpoint}", file=sys.stderr, flush=True)
        # Nothing more may be sent there, and a new connection needs a new socket.
        self.socket.close(linger=0)
        self.socket = None
        return registered

    @staticmethod
    def _answer(handle, request):
        """What is replied. A request that `handle` fails at has one empty frame as its reply.

        7/MDP has no error reply. Without any reply the broker would hand the request to the next
        worker, which would fail as well, and the client would wait in vain.
        """
        try:
            reply = handle(request)
        except Exception:
            logging.exception("a request failed")
            return [b""]
        return reply or [b""]

    def _send(self, command, *frames):
        self.socket.send_multipart([b"", WORKER, command, *frames])
        self.heartbeat_at = time.monotonic() + self.heartbeat_s


def main():
    service, *endpoints = sys.argv[1:]
    heartbeat_s = int(os.environ.get("MAJORDOMO_HEARTBEAT_MS", "2500")) / 1000
    worker = FailoverWorker(endpoints, service.encode(), heartbeat_s)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        worker.run(lambda request: request)
    except KeyboardInterrupt:
        worker.leave()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main()
