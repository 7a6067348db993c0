"""Clients and applications that nobody here wrote, unchanged, through the sidecar: before one server, before a cluster, and under TLS.

    clients_test.py debian|npm

debian: redis-py of Debian's python3-redis, and redis-cli. npm: ioredis, node-redis, BullMQ, express-session with
connect-redis, rate-limiter-flexible, of the versions in package-lock.json, which `npm install` puts beside the build. Where node
or its packages can't be had the program says so and ends with 77. Each script also runs against the plain server: what it
finds wrong there is the script's own fault.
"""

import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "redis"))
from system import BINARY, Cluster, RedisServer, Sidecar, free_port  # noqa: E402
from certificates import Authority, TlsRedisServer  # noqa: E402

SCRIPTS = {
    "debian": ["redis_py_client.py"],
    "npm": ["ioredis_client.js", "node_redis_client.js", "bullmq_application.js", "web_application.js"],
}
PACKAGES = Path(BINARY).resolve().parent / "clients"
NODE_MAJOR_MIN = 20
INSTALL_BOUND_S = 240
SCRIPT_BOUND_S = 200
SKIPPED = 77


def no_packages():
    """Why the npm part can't run here, or None."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "node and npm are not installed"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if int(re.match(r"v(\d+)", version).group(1)) < NODE_MAJOR_MIN:
        return f"node {version} is older than {NODE_MAJOR_MIN}, which these clients need"
    PACKAGES.mkdir(parents=True, exist_ok=True)
    wanted = (HERE / "package-lock.json").read_text()
    done = PACKAGES / "installed.json"
    if done.exists() and done.read_text() == wanted:
        return None
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, PACKAGES)
    try:
        result = subprocess.run(["npm", "install", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"], cwd=PACKAGES, timeout=INSTALL_BOUND_S,
                                capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return f"npm install was not done within {INSTALL_BOUND_S} s"
    if result.returncode != 0:
        return "npm install failed: " + next((line for line in result.stderr.splitlines() if line.startswith("npm error")), result.stderr[-200:])
    done.write_text(wanted)
    return None


class Clients:
    """Of a kind of upstream: each script runs as a test of its own."""

    def run_script(self, name, address, mode, **variables):
        host, _, port = address.rpartition(":")
        command = ["node"] if name.endswith(".js") else ["/usr/bin/python3"]
        environment = {**os.environ, "NODE_PATH": str(PACKAGES / "node_modules"), "PYTHONDONTWRITEBYTECODE": "1", **variables}
        result = subprocess.run([*command, str(HERE / name), host, port, mode], capture_output=True, text=True,
                                timeout=SCRIPT_BOUND_S, env=environment, stdin=subprocess.DEVNULL)
        passed = len(re.findall(r"^ok ", result.stdout, re.MULTILINE))
        wanted = re.search(r"^1\.\.(\d+)$", result.stdout, re.MULTILINE)
        whole = result.stdout.replace("\\n", "\n") + result.stderr
        self.assertIsNotNone(wanted, whole)
        self.assertGreater(passed, 0, whole)
        self.assertEqual(passed, int(wanted.group(1)), whole)
        self.assertEqual(result.returncode, 0, whole)

    @classmethod
    def tearDownClass(cls):
        cls.sidecar.stop()
        cls.upstream.close()


class BeforeOneServer(Clients, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.plain = RedisServer()
        cls.upstream = RedisServer()
        cls.upstream.close = cls.upstream.stop
        cls.sidecar = Sidecar(f"redis://{cls.upstream.address}")
        cls.sidecar.wait_caching()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.plain.stop()

    def check(self, name):
        self.run_script(name, self.plain.address, "plain")
        self.run_script(name, self.sidecar.address, "plain")


class BeforeACluster(Clients, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.upstream = Cluster(primaries=3)
        cls.sidecar = Sidecar(cls.upstream.url)
        cls.sidecar.wait_caching()

    def check(self, name):
        self.run_script(name, self.sidecar.address, "cluster")


class UnderTls(Clients, unittest.TestCase):
    """The client's connection and those to the server."""

    @classmethod
    def setUpClass(cls):
        authority = Authority()
        pair = authority.issue("sidecar")
        cls.ca = str(authority.cert)
        cls.upstream = TlsRedisServer(authority)
        cls.address = f"127.0.0.1:{free_port()}"
        cls.sidecar = Sidecar(cls.upstream.url, {"tls.cert": pair.cert, "tls.key": pair.key, "upstream.tls.ca": cls.ca},
                              args=["--listen", f"rediss://{cls.address}"])
        cls.sidecar.wait_caching()

    def check(self, name):
        self.run_script(name, self.address, "plain", TLS_CA=self.ca)


class CommandLine(unittest.TestCase):
    """redis-cli, typed into."""

    @classmethod
    def setUpClass(cls):
        cls.upstream = RedisServer()
        cls.sidecar = Sidecar(f"redis://{cls.upstream.address}")

    @classmethod
    def tearDownClass(cls):
        cls.sidecar.stop()
        cls.upstream.stop()

    def cli(self, address, typed, *options):
        host, _, port = address.rpartition(":")
        return subprocess.run(["redis-cli", "-h", host, "-p", port, *options], input=typed, capture_output=True, text=True,
                              timeout=SCRIPT_BOUND_S).stdout

    def test_a_session_at_the_prompt_looks_as_before_redis(self):
        typed = ("SET k v\nGET k\nGET k\nMULTI\nINCR n\nGET k\nEXEC\nWATCH k\nSET k w\nMULTI\nGET k\nEXEC\nLPUSH l a b\n"
                 "BLPOP l 1\nNO SUCH\nHSET h f 1\nHGETALL h\nHGETALL h\nCLIENT REPLY ON\nFLUSHALL\n")
        for options in (["-2"], ["-3"]):
            self.assertEqual(self.cli(self.sidecar.address, typed, *options), self.cli(self.upstream.address, typed, *options))

    def test_a_pipe_of_commands_is_taken_whole(self):
        typed = "".join(f"SET pipe:{i} {i}\r\n" for i in range(10000))
        self.assertIn("errors: 0, replies: 10000", self.cli(self.sidecar.address, typed, "--pipe"))

    def test_redis_cli_finds_keys(self):
        self.cli(self.sidecar.address, "SET found 1\nHSET foundhash a 1\n")
        self.assertIn("found", self.cli(self.sidecar.address, "", "--scan", "--pattern", "found*"))
        self.assertIn("Biggest", self.cli(self.sidecar.address, "", "--bigkeys"))


def add_tests(part):
    for kind in (BeforeOneServer, BeforeACluster, UnderTls):
        for name in SCRIPTS[part]:
            setattr(kind, f"test_{name.split('.')[0]}", lambda self, name=name: self.check(name))


if __name__ == "__main__":
    part = sys.argv.pop(1)
    if part == "npm":
        if reason := no_packages():
            print(f"skipped: {reason}")
            sys.exit(SKIPPED)
        del CommandLine
    add_tests(part)
    unittest.main(verbosity=2)
