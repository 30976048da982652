# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A certificate authority that lives for a test, and a server's certificate of it."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID = datetime.timedelta(days=2)


def make(folder: Path, *names: str, valid: datetime.timedelta = VALID) -> tuple[Path, Path, Path]:
    """Write ``ca.pem``, ``server.pem`` and ``server.key``, for these host names; return their paths.

    ``valid``: for how long from now on; less than nothing, but not an hour ago, where they have expired.
    """
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _unused in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)

    def signed(name: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + valid)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    identity = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    contents = {
        "ca.pem": signed(issuer, authority, x509.BasicConstraints(True, None), identity, usage),
        "server.pem": signed(subject, server, x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), by),
        "server.key": server.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    paths = []
    for name, content in contents.items():
        path = folder / name
        path.write_bytes(content)
        path.chmod(0o644)  # a container's own user reads it; it lives as long as the test
        paths.append(path)
    return paths[0], paths[1], paths[2]
