"""Certificates for tests, made by the openssl program, and servers that use them.

    authority = Authority()
    pair = authority.issue("server")                       # pair.cert, pair.key: paths; for 127.0.0.1 and localhost
    with TlsRedisServer(authority) as redis: ...           # TLS only; redis.url is a rediss:// one
    authority.client_context(pair)                         # an ssl.SSLContext that believes this authority, shows `pair`
"""

import atexit
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path

from resp import Client
from sentinel_set import SentinelSet
from servers import Cluster, RedisServer, ServerError

SUBJECT_ALTERNATIVES = "IP:127.0.0.1,DNS:localhost"


class Pair:
    def __init__(self, cert, key):
        self.cert = cert
        self.key = key

    def replace_by(self, other):
        """As a rotation does it: each file at once, the key first."""
        for mine, its in ((self.key, other.key), (self.cert, other.cert)):
            fresh = mine.with_suffix(".new")
            shutil.copyfile(its, fresh)
            fresh.rename(mine)


class Authority:
    def __init__(self, name="authority"):
        self.directory = Path(tempfile.mkdtemp(prefix="nearcached-certificates-"))
        atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        self.cert = self.directory / "ca.pem"
        self.key = self.directory / "ca.key"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30,
                      "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.cert)

    @staticmethod
    def _openssl(*args):
        done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise ServerError(f"openssl {args[0]} failed: {done.stderr[-1000:]}")

    def issue(self, name, names=SUBJECT_ALTERNATIVES, expired=False):
        base = self.directory / name
        cert, key, request, extensions = (base.with_suffix(suffix) for suffix in (".pem", ".key", ".csr", ".ext"))
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                      "-keyout", key, "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial",
                      "-extfile", extensions, "-days", -1 if expired else 30, "-out", cert)
        return Pair(cert, key)

    def encrypted_key(self, pair):
        key = pair.key.with_suffix(".encrypted")
        self._openssl("ec", "-in", pair.key, "-aes256", "-passout", "pass:secret", "-out", key)
        return key

    def client_context(self, pair=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.cert)
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context


class TlsRedisServer(RedisServer):
    """Its port speaks TLS. `client_auth`: it wants certificates of the authority from everybody."""

    def __init__(self, authority, pair=None, client_auth=False, args=(), **options):
        self.authority = authority
        self.pair = pair or authority.issue("redis")
        self.tls_options = ["--port", 0, "--tls-cert-file", self.pair.cert, "--tls-key-file", self.pair.key,
                            "--tls-replication", "yes", "--tls-ca-cert-file", authority.cert,
                            "--tls-auth-clients", "yes" if client_auth else "no"]
        self._context = authority.client_context(self.pair)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE  # its certificate may be one that nobody is to believe
        super().__init__(args=[*self.tls_options, *args], **options)

    def start(self):
        if "--tls-port" not in self.args:
            self.args += ["--tls-port", str(self.port)]
        return super().start()

    @property
    def url(self):
        return super().url.replace("redis://", "rediss://", 1)

    def client(self, protocol=2, timeout=5.0):
        return Client(self.address, protocol=protocol, timeout=timeout, password=self.password, tls=self._context)


class TlsCluster(Cluster):
    def __init__(self, authority, **options):
        self._authority = authority
        self._pair = authority.issue("node")
        super().__init__(args=["--tls-cluster", "yes"], **options)

    def _make_node(self, **options):
        return TlsRedisServer(self._authority, self._pair, **options)

    def cli(self, *args, timeout=60):
        return super().cli(*args, "--tls", "--cacert", self._authority.cert, timeout=timeout)

    @property
    def url(self):
        return super().url.replace("redis+", "rediss+", 1)


class TlsSentinelSet(SentinelSet):
    """Master, replicas and sentinels speak TLS, to each other too."""

    def __init__(self, authority, **options):
        self._authority = authority
        self._pair = authority.issue("of-sentinels")
        super().__init__(**options)

    def _make_server(self, **options):
        return TlsRedisServer(self._authority, self._pair, **options)

    @property
    def url(self):
        return super().url.replace("redis+", "rediss+", 1)
