"""A broker process for the tests: start, restart, stop."""

import os
import pathlib
import re
import subprocess
import tempfile
import threading
import unittest

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


class Broker:
    """A running `majordomo serve`. Settings are {"section.key": "value"}."""

    def __init__(self, settings=None):
        self.settings = dict(settings or {})
        self.directory = tempfile.TemporaryDirectory()
        self.endpoint = "tcp://127.0.0.1:0"
        self.start()

    def start(self):
        """Starts the process, on the port that it had before."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAJORDOMO")}
        environment["MAJORDOMO__ADMIN__BIND"] = ""
        environment["MAJORDOMO__NODE__DATA_DIR"] = os.path.join(self.directory.name, "data")
        for key, value in self.settings.items():
            environment["MAJORDOMO__" + key.upper().replace(".", "__")] = value
        self.log = []
        self.process = subprocess.Popen(
            [program(), "serve", "--bind", self.endpoint],
            cwd=self.directory.name,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        listening = threading.Event()
        self.reader = threading.Thread(target=self._read_log, args=(listening,), daemon=True)
        self.reader.start()
        if not listening.wait(PATIENCE_S) or self.process.poll() is not None:
            self.stop()
            raise RuntimeError("the broker does not listen:\n" + "\n".join(self.log))

    def _read_log(self, listening):
        for line in self.process.stderr:
            line = line.decode(errors="replace").rstrip()
            self.log.append(line)
            found = re.search(r"listening on (tcp://[0-9.:]+)", line)
            if found:
                self.endpoint = found.group(1)
                listening.set()
        listening.set()

    def stop(self):
        """Kills the process at once."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()

    def restart(self):
        """Kills the process and starts it again."""
        self.stop()
        self.start()


class BrokerTest(unittest.TestCase):
    """A test with brokers of its own."""

    def broker(self, **settings):
        """Starts a broker that ends with the test: broker(broker__request_ttl="1s")."""
        broker = Broker({key.replace("__", "."): value for key, value in settings.items()})
        self.addCleanup(broker.directory.cleanup)
        self.addCleanup(broker.stop)
        return broker
