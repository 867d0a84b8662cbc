#!/usr/bin/env python3
"""A client of 7/MDP with keys (CURVE), that says why a broker refuses it.

    secure_client.py ENDPOINT KEY_FILE SERVER_KEY_FILE SERVICE BODY...

KEY_FILE is the NAME.key_secret of `majordomo keygen` or of `zmq.auth.create_certificates`, SERVER_KEY_FILE
the public key of the cluster. Prints the reply. Needs pyzmq with CURVE (`zmq.has("curve")`).
"""

import sys
import time

import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

CLIENT = b"MDPC01"
# A broker that does not know the key holds the connection for 3 s before it says so.
TIMEOUT_S = 6.0
# <zmq.h>, ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH.
MECHANISM_MISMATCH = 0x11000002
REFUSALS = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class NotServed(Exception):
    """No reply came, and why, if that is known."""


def secure(socket, key_file, server_key_file):
    """Gives a socket its keys, before it connects. A worker's socket gets them in the same way."""
    public, secret = zmq.auth.load_certificate(key_file)
    if secret is None:
        raise ValueError(f"{key_file} has no secret key")
    socket.curve_publickey = public
    socket.curve_secretkey = secret
    socket.curve_serverkey, _ = zmq.auth.load_certificate(server_key_file)


def reason(event):
    """What a failed handshake means. The socket itself says nothing: it would only never get a reply."""
    if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return f"not admitted: the broker does not know this key (ERROR {event['value']})"
    if event["value"] == MECHANISM_MISMATCH:
        return "wrong mechanism: the broker has no keys"
    return "the handshake failed: is this the broker's public key?"


def call(endpoint, key_file, server_key_file, service, *body):
    """The frames of the reply."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        secure(socket, key_file, server_key_file)
        with socket.get_monitor_socket(REFUSALS) as monitor:
            socket.connect(endpoint)
            socket.send_multipart([CLIENT, service, *body])
            deadline = time.monotonic() + TIMEOUT_S
            poller = zmq.Poller()
            poller.register(socket, zmq.POLLIN)
            poller.register(monitor, zmq.POLLIN)
            ready = dict(poller.poll(max(0, deadline - time.monotonic()) * 1000))
            try:
                if socket in ready:
                    return socket.recv_multipart()[2:]
                if monitor in ready:
                    raise NotServed(reason(recv_monitor_message(monitor)))
                raise NotServed("no reply")
            finally:
                socket.disable_monitor()


def main():
    endpoint, key_file, server_key_file, *frames = sys.argv[1:]
    try:
        reply = call(endpoint, key_file, server_key_file, *map(str.encode, frames))
    except NotServed as error:
        sys.exit(f"{endpoint}: {error}")
    print(b" ".join(reply).decode())


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    main()
