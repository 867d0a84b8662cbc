"""What peers can do at a Unix socket with calls of the system that other languages' libraries refuse."""

import ctypes
import os
import socket
import struct
import tempfile

from broker import PATIENCE_S, BrokerTest
from peers import SynchronousClient

PATH_BYTES = 108
"""The whole of `sun_path`: the kernel adds a zero behind it."""
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)


class UnixSocketTest(BrokerTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.node = self.broker("ipc://" + os.path.join(self.folder, "clients"))

    def peer_bound_to(self, path):
        """A socket with this path, which Python's own `bind` refuses."""
        peer = socket.socket(socket.AF_UNIX)
        self.addCleanup(peer.close)
        peer.settimeout(PATIENCE_S)
        address = struct.pack(f"=H{PATH_BYTES}s", socket.AF_UNIX, os.fsencode(path))
        libc = ctypes.CDLL(None, use_errno=True)
        self.assertEqual(libc.bind(peer.fileno(), address, len(address)), 0, ctypes.get_errno())
        return peer

    def test_peer_with_the_longest_address_is_one_like_others(self):
        path = os.path.join(self.folder, "")
        peer = self.peer_bound_to(path + "x" * (PATH_BYTES - len(path)))
        peer.connect(self.node.endpoint.removeprefix("ipc://"))
        peer.sendall(GREETING)

        self.assertEqual(peer.recv(1), GREETING[:1])
        client = SynchronousClient(self.node.endpoint, timeout_s=PATIENCE_S, attempts=1)
        self.addCleanup(client.close)
        self.assertEqual(client.call(b"mmi.echo", b"hi"), [b"hi"])
