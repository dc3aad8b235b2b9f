"""A certificate authority of its own, by the `openssl` program, to test TLS with."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Smaller than RSA and quick to make; every TLS library of the day takes it.
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

# Python 3.13 verifies strictly (RFC 5280): key usage and key identifiers have to be there.
CONFIG = """\
[ca]
default_ca = test
[test]
database = index.txt
new_certs_dir = .
rand_serial = yes
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[here]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1, IP:::1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[elsewhere]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:elsewhere.example
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Authority:
    """A CA and the certificates it signed, for a server on this machine."""

    ca: Path
    """The CA's certificate, PEM: what a client has to trust."""
    good: Path
    """For 127.0.0.1, ::1 and localhost. Key and certificate in one PEM file, as the next three."""
    expired: Path
    """The same, over since 2001."""
    wrong_host: Path
    """For elsewhere.example only."""
    self_signed: Path
    """For the right names, signed by nobody else."""

    def context(self, certificate: Path | None = None) -> ssl.SSLContext:
        """A server's context with one of the certificates, by default the good one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate or self.good)
        return context

    def client(self) -> ssl.SSLContext:
        """A client's context that trusts this authority and nothing else, and checks names."""
        return ssl.create_default_context(cafile=str(self.ca))


def make_authority(folder: Path) -> Authority:
    """Makes the authority with its certificates in `folder`, which must be there, in about 0.1 s.

    Raises: FileNotFoundError without the openssl program; subprocess.CalledProcessError when it fails.
    """
    (folder / "ca.conf").write_text(CONFIG)
    (folder / "index.txt").touch()
    (folder / "index.txt.attr").write_text("unique_subject = no\n")
    _request(folder, "ca", "/CN=Test CA", "-x509", "-days", "2", "-extensions", "authority")
    _request(folder, "self-signed", "/CN=Self", "-x509", "-days", "2", "-extensions", "here")
    return Authority(
        ca=folder / "ca.pem",
        good=_signed(folder, "good", "here", "-days", "2"),
        expired=_signed(
            folder, "expired", "here", "-startdate", "20000101000000Z", "-enddate", "20010101000000Z"
        ),
        wrong_host=_signed(folder, "wrong-host", "elsewhere", "-days", "2"),
        self_signed=_joined(folder, "self-signed"),
    )


def _request(folder: Path, name: str, subject: str, *more: str) -> None:
    _openssl(
        folder,
        "req",
        "-config",
        "ca.conf",
        *KEY,
        "-subj",
        subject,
        *more,
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.pem",
    )


def _signed(folder: Path, name: str, extensions: str, *validity: str) -> Path:
    _request(folder, name, f"/CN={name}", "-new")
    # `openssl ca`, since `openssl x509` takes no dates before OpenSSL 3.4.
    signing = (
        "ca",
        "-batch",
        "-notext",
        "-config",
        "ca.conf",
        "-extensions",
        extensions,
        *validity,
    )
    _openssl(folder, *signing, "-in", f"{name}.pem", "-out", f"{name}.pem.signed")
    (folder / f"{name}.pem.signed").replace(folder / f"{name}.pem")
    return _joined(folder, name)


def _joined(folder: Path, name: str) -> Path:
    both = folder / f"{name}-server.pem"
    both.write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.pem").read_text())
    return both


def _openssl(folder: Path, *arguments: str) -> None:
    # The arguments are all ours, and where openssl lies is the PATH's business.
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S603, S607
