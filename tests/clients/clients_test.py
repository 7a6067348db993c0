"""Clients and applications that nobody here wrote, unchanged, through the sidecar: before one server, before a cluster, and under TLS.

    clients_test.py debian|npm

debian: redis-py of Debian's python3-redis, hiredis, and redis-cli. npm: ioredis, node-redis, BullMQ, express-session with
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
    "debian": ["redis_py_client.py", "hiredis_client"],
    "npm": ["ioredis_client.js", "node_redis_client.js", "bullmq_application.js", "web_application.js"],
}
IN_CLUSTER_MODE = {
    "debian": ["redis_py_cluster.py"],
    "npm": ["ioredis_client.js", "node_redis_cluster.js"],
}
WITHOUT_TLS = ["hiredis_client"]
WITH_PASSWORDS = {
    "debian": SCRIPTS["debian"],
    "npm": ["ioredis_client.js", "node_redis_client.js"],
}
PASSWORD = "correct horse"
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
        languages = {".js": ["node", str(HERE / name)], ".py": ["/usr/bin/python3", str(HERE / name)]}
        command = languages.get(Path(name).suffix, [str(PACKAGES.parent / name)])
        environment = {**os.environ, "NODE_PATH": str(PACKAGES / "node_modules"), "PYTHONDONTWRITEBYTECODE": "1", **variables}
        result = subprocess.run([*command, host, port, mode], capture_output=True, text=True,
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


class WithPasswords(Clients, unittest.TestCase):
    """The upstream's password, and a user whom only the sidecar knows."""

    @classmethod
    def setUpClass(cls):
        cls.upstream = RedisServer(password=PASSWORD)
        cls.passed_on = Sidecar(cls.upstream.url)
        cls.sidecar = Sidecar(cls.upstream.url, start=False)
        password, config = (cls.sidecar.directory / name for name in ("password", "users.yaml"))
        password.write_text(PASSWORD + "\n")
        config.write_text(f'users:\n  - {{name: app, password_files: ["{password}"], commands: "+@all", keys: "*", channels: "*"}}\n')
        cls.sidecar.args = ["--config", str(config)]
        cls.sidecar.start()

    @classmethod
    def tearDownClass(cls):
        cls.passed_on.stop()
        super().tearDownClass()

    def check(self, name):
        self.run_script(name, self.passed_on.address, "plain", PASSWORD=PASSWORD)
        self.run_script(name, self.sidecar.address, "plain", USERNAME="app", PASSWORD=PASSWORD)


class InClusterMode(Clients, unittest.TestCase):
    """Clients that insist on a cluster, shown one node that owns all slots (cluster_emulation)."""

    @classmethod
    def setUpClass(cls):
        cls.upstream = Cluster(primaries=3)
        cls.server = RedisServer()
        cls.sidecar, cls.before_one_server = (
            Sidecar(url, {"cluster_emulation": "true"}) for url in (cls.upstream.url, f"redis://{cls.server.address}"))
        for sidecar in (cls.sidecar, cls.before_one_server):
            sidecar.wait_caching()

    @classmethod
    def tearDownClass(cls):
        cls.before_one_server.stop()
        cls.server.stop()
        super().tearDownClass()

    def check(self, name):
        for sidecar in (self.sidecar, self.before_one_server):
            self.run_script(name, sidecar.address, "emulated")


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
    under_tls = [name for name in SCRIPTS[part] if name not in WITHOUT_TLS]
    for kind, names in ((BeforeOneServer, SCRIPTS[part]), (BeforeACluster, SCRIPTS[part]), (UnderTls, under_tls),
                        (WithPasswords, WITH_PASSWORDS[part]), (InClusterMode, IN_CLUSTER_MODE[part])):
        for name in names:
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
