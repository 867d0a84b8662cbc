#!/usr/bin/env python3
"""A client of 7/MDP that goes on when its broker is lost.

    failover_client.py SERVICE ENDPOINT...

Each line of stdin is sent to the service as one request, and its reply is printed. `tcp://` may be left
out. Needs pyzmq.
"""

import sys

import zmq

CLIENT = b"MDPC01"


class NoReply(Exception):
    """Every attempt was in vain. Whether a worker did the work is not known."""


class FailoverClient:
    """Asks one broker of several, and the next one when no reply comes.

    A request may be sent more than once, so what it asks for must do no harm when done twice.
    """

    def __init__(self, endpoints, timeout_s=2.5, attempts=3):
        self.endpoints = [e if "://" in e else f"tcp://{e}" for e in endpoints]
        self.timeout_s = timeout_s
        self.attempts = attempts
        self.context = zmq.Context.instance()
        self.socket = None

    def call(self, service, *body):
        """The frames of the reply. Raises NoReply."""
        for _ in range(self.attempts):
            self._connect()
            self.socket.send_multipart([CLIENT, service, *body])
            if self.socket.poll(self.timeout_s * 1000):
                header, replied, *reply = self.socket.recv_multipart()
                if header == CLIENT and replied == service:
                    return reply
            # A REQ socket that waits for a reply can do nothing else, and a late reply must not be
            # taken for that to the next request. So: another socket, and another broker.
            self._give_up(self.endpoints[0])
        raise NoReply(f"{service.decode()}: no reply in {self.attempts} attempts")

    def _connect(self):
        """Keeps the broker that answered last, which is the first of the list."""
        if self.socket is None:
            self.socket = self.context.socket(zmq.REQ)
            self.socket.linger = 0  # What was not sent to a dead broker is not sent later.
            self.socket.connect(self.endpoints[0])

    def _give_up(self, endpoint):
        print(f"no reply from {endpoint}", file=sys.stderr, flush=True)
        self.socket.close()
        self.socket = None
        self.endpoints.append(self.endpoints.pop(0))


def main():
    service, *endpoints = sys.argv[1:]
    client = FailoverClient(endpoints)
    for line in sys.stdin:
        reply = client.call(service.encode(), line.rstrip("\n").encode())
        print(b" ".join(reply).decode(), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main()
