"""Broker processes for the tests, one or three: start, restart, stop."""

import os
import pathlib
import random
import re
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

PATIENCE_S = 20.0
ROOT = pathlib.Path(__file__).resolve().parents[2]
SOAK = os.environ.get("MAJORDOMO_SOAK") == "1"


def program():
    """The program under test: MAJORDOMO_BIN, else what was built last."""
    given = os.environ.get("MAJORDOMO_BIN")
    if given:
        return str(pathlib.Path(given).resolve())
    built = [ROOT / "target" / profile / "majordomo" for profile in ("release", "debug")]
    built = [path for path in built if path.is_file()]
    if not built:
        raise RuntimeError("set MAJORDOMO_BIN, or run `cargo build -p majordomo`")
    return str(max(built, key=lambda path: path.stat().st_mtime))


def environment(settings=()):
    """What a process is given: these settings, and none that this process was given."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("MAJORDOMO")}
    for key, value in dict(settings).items():
        variables["MAJORDOMO__" + key.upper().replace(".", "__")] = value
    return variables


class Broker:
    """A running `majordomo serve`. Settings are {"section.key": "value"}."""

    def __init__(self, settings=None, endpoint="tcp://127.0.0.1:0"):
        self.directory = tempfile.TemporaryDirectory()
        data_dir = os.path.join(self.directory.name, "data")
        self.settings = {"admin.bind": "", "node.data_dir": data_dir, **(settings or {})}
        self.endpoint = endpoint
        self.start()

    def start(self):
        """Starts the process, on the port that it had before."""
        self.log = []
        self.process = subprocess.Popen(
            [program(), "serve", "--bind", self.endpoint],
            cwd=self.directory.name,
            env=environment(self.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        listening = threading.Event()
        self.reader = threading.Thread(target=self._read_log, args=(listening,), daemon=True)
        self.reader.start()
        if not listening.wait(PATIENCE_S) or self.process.poll() is not None:
            self.stop()
            self.directory.cleanup()
            raise RuntimeError("the broker does not listen:\n" + "\n".join(self.log))

    def _read_log(self, listening):
        for line in self.process.stderr:
            line = line.decode(errors="replace").rstrip()
            self.log.append(line)
            found = re.search(r"listening on (tcp://[0-9.:]+|ipc://[^\s,]+)", line)
            if found:
                self.endpoint = found.group(1)
                listening.set()
        listening.set()

    def stop(self):
        """Kills the process at once; nothing happens to one that ended."""
        if self.process.stderr.closed:
            return
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()

    def restart(self):
        """Kills the process and starts it again."""
        self.stop()
        self.start()


def free_addresses(count):
    """Addresses that nobody listens on, all different, and that no connection gets meanwhile: they
    are below the ports which the system gives to those that do not care."""
    addresses = []
    while len(addresses) < count:
        address = ("127.0.0.1", random.randrange(20_000, 32_000))
        try:
            socket.create_server(address).close()
        except OSError:
            continue
        text = "%s:%d" % address
        if text not in addresses:
            addresses.append(text)
    return addresses


class Cluster:
    """Three nodes that know each other. The settings are those of each of them."""

    def __init__(self, settings=None):
        addresses = free_addresses(9)
        self.admins = addresses[6:]
        names = ["node-%d" % number for number in (1, 2, 3)]
        peers = ",".join(map("=".join, zip(names, addresses[3:6])))
        self.nodes = []
        try:
            self._start(names, addresses, peers, settings or {})
        except Exception:
            self.stop()
            raise

    def _start(self, names, addresses, peers, settings):
        for name, client, cluster, admin in zip(names, addresses, addresses[3:], self.admins):
            own = {
                "node.name": name,
                "cluster.bind": "tcp://" + cluster,
                "cluster.peers": peers,
                "cluster.expect": "3",
                "admin.bind": admin,
            }
            self.nodes.append(Broker({**own, **settings}, "tcp://" + client))
        deadline = time.monotonic() + PATIENCE_S
        while not all(map(self.is_ready, self.admins)):
            if time.monotonic() >= deadline:
                log = "\n".join(line for node in self.nodes for line in node.log)
                raise RuntimeError("no cluster:\n" + log)
            time.sleep(0.02)

    @property
    def endpoints(self):
        """Where clients and workers connect, node by node."""
        return [node.endpoint for node in self.nodes]

    @staticmethod
    def is_ready(admin):
        try:
            with urllib.request.urlopen(f"http://{admin}/readyz", timeout=2) as page:
                return page.status == 200
        except OSError:
            return False

    def stop(self):
        """Kills all nodes at once."""
        for node in self.nodes:
            node.stop()
            node.directory.cleanup()


class BrokerTest(unittest.TestCase):
    """A test with brokers of its own."""

    def broker(self, endpoint="tcp://127.0.0.1:0", **settings):
        """Starts a broker that ends with the test: broker(broker__request_ttl="1s")."""
        settings = {key.replace("__", "."): value for key, value in settings.items()}
        broker = Broker(settings, endpoint)
        self.addCleanup(broker.directory.cleanup)
        self.addCleanup(broker.stop)
        return broker

    def cluster(self, **settings):
        """Starts three nodes that end with the test."""
        cluster = Cluster({key.replace("__", "."): value for key, value in settings.items()})
        self.addCleanup(cluster.stop)
        return cluster
