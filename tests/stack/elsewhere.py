# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A PostgreSQL server elsewhere, as providers run it: TLS alone, and an administrator that is no superuser."""

from __future__ import annotations

import datetime
import ipaddress
import json
import secrets
import subprocess
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RULES = "local all all trust\nhostssl all all all scram-sha-256\n"
SUPERUSER = "provider"
ADMIN = "rds"


def docker(*arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["docker", *arguments], input=stdin, capture_output=True, encoding="utf-8", check=False, timeout=120
    )
    if check and done.returncode:
        raise AssertionError(done.stderr)
    return done


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


class Authority:
    """A certificate authority."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {secrets.token_hex(4)}")])
        self.certificate = self._sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=0))

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> str:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=2)).add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, address: str) -> tuple[str, str]:
        """Return the certificate of a server at an address, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        return self._sign(x509.Name([]), key, names), pem(key)


class Elsewhere:
    """The server, in a container with a network of its own; ``folder`` gets ``ca.pem``.

    The administrator makes the role and the database of the application, as its owner would there.
    """

    def __init__(self, folder: Path, version: str, name: str) -> None:
        self.folder = folder
        self.version = version
        self.name = self.network = f"chat4all-elsewhere-{name}-{version}"
        self.admin = {"user": ADMIN, "password": secrets.token_urlsafe(24)}
        self.first = {"user": "chat4all", "password": secrets.token_urlsafe(24)}
        self.address = ""

    def __enter__(self) -> Elsewhere:
        self.__exit__()
        try:
            docker("network", "create", self.network)
            environment = f"POSTGRES_USER={SUPERUSER}\nPOSTGRES_PASSWORD={secrets.token_urlsafe(24)}\n"
            options = ("--name", self.name, "--network", self.network, "--env-file", "/dev/stdin")
            image = f"chat4all-test/postgres:{self.version}"
            docker("run", "-d", *options, image, "postgres", "-c", "log_connections=on", stdin=environment)
            self._wait()
            networks = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", self.name).stdout)
            self.address = networks[self.network]["IPAddress"]
            self._secure()
            self.sql(
                f"CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB PASSWORD '{self.admin['password']}';"
                f"GRANT pg_monitor, pg_signal_backend TO {ADMIN};"
            )
            self.sql(f"SET ROLE {ADMIN}; CREATE ROLE chat4all LOGIN PASSWORD '{self.first['password']}';")
            self.sql("CREATE DATABASE chat4all;")
            self.sql("ALTER DATABASE chat4all OWNER TO chat4all; REVOKE CONNECT ON DATABASE chat4all FROM PUBLIC;")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        docker("rm", "-fv", self.name, check=False)
        docker("network", "rm", self.network, check=False)

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        asked = ("pg_isready", "-q", "-h", "127.0.0.1", "-U", SUPERUSER, "-d", "postgres")
        while docker("exec", self.name, *asked, check=False).returncode:
            assert time.monotonic() < deadline, docker("logs", self.name).stderr
            time.sleep(0.2)

    def _secure(self) -> None:
        self.authority = Authority()
        (self.folder / "ca.pem").write_text(self.authority.certificate)
        (self.folder / "ca.pem").chmod(0o644)
        self._write("pg_hba.conf", RULES)
        self.sql("ALTER SYSTEM SET ssl = on;")
        self.certify(self.address)
        while self.sql("SHOW ssl;") != "on":
            time.sleep(0.1)

    def _write(self, file: str, text: str) -> None:
        script = f'umask 077; cat > "$PGDATA/{file}"'
        docker("exec", "-i", "-u", "postgres", self.name, "sh", "-c", script, stdin=text)

    def certify(self, address: str) -> None:
        """Give the server the certificate of an address."""
        for file, text in zip(("server.crt", "server.key"), self.authority.issue(address), strict=True):
            self._write(file, text)
        self.sql("SELECT pg_reload_conf();")

    def sql(self, statements: str, database: str = "postgres") -> str:
        """Run SQL as the provider does, who has what nobody else has."""
        options = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", SUPERUSER, "-d", database)
        return docker("exec", "-i", self.name, "psql", *options, stdin=statements).stdout.strip()

    def options(self) -> dict[str, object]:
        """Return the modules' option ``address``."""
        return {
            "host": self.address,
            "port": 5432,
            "ca": str(self.folder / "ca.pem"),
            "database": "postgres",
            "network": self.network,
        }

    def log(self) -> str:
        done = docker("logs", self.name)
        return done.stdout + done.stderr
