"""Key files as `majordomo keygen` and pyzmq write them: each reads those of the other."""

import json
import os
import subprocess
import tempfile
import unittest

import zmq.auth

from broker import program


def majordomo(*args):
    """What a successful run of the program prints."""
    return subprocess.run([program(), *args], check=True, capture_output=True, text=True).stdout


class KeyFilesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def test_pyzmq_loads_keys_of_majordomo(self):
        made = json.loads(majordomo("keygen", "billing", "--out", self.folder, "--json"))

        public, none = zmq.auth.load_certificate(made["public_file"])
        same, secret = zmq.auth.load_certificate(made["secret_file"])

        self.assertEqual((public.decode(), none), (made["public_key"], None))
        self.assertEqual(same, public)
        self.assertEqual(zmq.curve_public(secret), public)

    def test_majordomo_reads_keys_of_pyzmq(self):
        public_file, secret_file = zmq.auth.create_certificates(self.folder, "billing")
        public, _ = zmq.auth.load_certificate(public_file)

        for file, has_secret in ((public_file, False), (secret_file, True)):
            shown = json.loads(majordomo("key", "show", file, "--json"))
            self.assertEqual(shown["public_key"], public.decode(), file)
            self.assertEqual(shown["secret"], has_secret, file)

    def test_directory_of_pyzmq_certificates_is_one_of_identities(self):
        _, secret_file = zmq.auth.create_certificates(self.folder, "billing")
        os.remove(secret_file)

        page = json.loads(majordomo("identity", "check", self.folder, "--json"))

        self.assertEqual([identity["name"] for identity in page["identities"]], ["billing"])
