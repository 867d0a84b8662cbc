"""A client of pyzmq with ZMTP heartbeats that pipelines requests until it is killed.

    pipelining_client.py ENDPOINT HEARTBEAT_MS ANSWER

ANSWER is what mmi.service says there. It prints a line when it has its first reply. `tests/delivery/hostile` kills it some time after that.
"""

import sys

import zmq

IN_FLIGHT = 64


def main(endpoint, heartbeat_ms, answer):
    socket = zmq.Context().socket(zmq.DEALER)
    socket.setsockopt(zmq.HEARTBEAT_IVL, heartbeat_ms)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10_000)
    socket.connect(endpoint)
    for _ in range(IN_FLIGHT):
        socket.send_multipart([b"", b"MDPC01", b"mmi.service", b"honest"])
    has_reply = False
    while True:
        reply = socket.recv_multipart()
        if reply[:3] != [b"", b"MDPC01", b"mmi.service"] or reply[3] not in (answer, b"503"):
            sys.exit(f"a wrong reply: {reply}")
        if not has_reply:
            has_reply = True
            print("replied", flush=True)
        socket.send_multipart([b"", b"MDPC01", b"mmi.service", b"honest"])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3].encode())
