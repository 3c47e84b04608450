"""Who is asking? The administrator's token, ServiceAccount tokens, the server's certificate, the
kubeconfig.

ServiceAccount tokens are JSON Web Tokens signed with a key that lives as long as the API.
Everybody who is known may do everything: the local API enforces no RBAC.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .errors import Object
from .store import Store

AUDIENCE = "https://kubernetes.default.svc"
_LIFETIME = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class User:
    """Who a request comes from."""

    name: str
    uid: str
    groups: tuple[str, ...]
    audiences: tuple[str, ...] = (AUDIENCE,)

    def to_dict(self) -> Object:
        return {"username": self.name, "uid": self.uid, "groups": list(self.groups)}


class Tokens:
    """Issues and reads bearer tokens."""

    def __init__(self, store: Store) -> None:
        self.admin = secrets.token_urlsafe(32)
        self._store = store
        self._key = secrets.token_bytes(32)

    def issue(
        self, account: Object, audiences: list[str], seconds: int, now: datetime
    ) -> tuple[str, datetime]:
        """Return a token of the ServiceAccount `account`, and when it expires."""
        meta = account["metadata"]
        expires = now + timedelta(seconds=seconds)
        claims = {
            "iss": AUDIENCE,
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
            "aud": audiences,
            "iat": int(now.timestamp()),
            "exp": int(expires.timestamp()),
            "jti": secrets.token_hex(8),
            "kubernetes.io": {
                "namespace": meta["namespace"],
                "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
            },
        }
        parts = (
            _b64(json.dumps({"alg": "HS256"}).encode()) + "." + _b64(json.dumps(claims).encode())
        )
        return f"{parts}.{self._sign(parts)}", expires

    def user(self, token: str, now: datetime) -> User | None:
        """Return whose token this is; None if it is nobody's, expired, or its ServiceAccount is
        gone.
        """
        if hmac.compare_digest(token.encode(), self.admin.encode()):
            return User("kubernetes-admin", "", ("system:masters", "system:authenticated"))
        body, _, signature = token.rpartition(".")
        if not body or not hmac.compare_digest(signature.encode(), self._sign(body).encode()):
            return None
        claims: dict[str, Any] = json.loads(_unb64(body.split(".")[1]))
        bound = claims["kubernetes.io"]
        namespace, account = bound["namespace"], bound["serviceaccount"]
        found = self._store.get(("", "serviceaccounts"), (namespace, account["name"]))
        if found is None or found["metadata"]["uid"] != account["uid"]:
            return None
        if claims["exp"] <= now.timestamp():
            return None
        groups = (
            "system:serviceaccounts",
            f"system:serviceaccounts:{namespace}",
            "system:authenticated",
        )
        return User(claims["sub"], account["uid"], groups, tuple(claims["aud"]))

    def _sign(self, text: str) -> str:
        return _b64(hmac.new(self._key, text.encode(), hashlib.sha256).digest())


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Write a new authority and a server certificate for 127.0.0.1; return (ca, certificate,
    key).
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = datetime.now(UTC) - timedelta(minutes=5)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = _name("tinyml-local-ca")
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id)
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(_name("tinyml-local"), ca_name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(own_id, critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    paths = (folder / "ca.crt", folder / "server.crt", folder / "server.key")
    pem = serialization.Encoding.PEM
    paths[0].write_bytes(ca.public_bytes(pem))
    paths[1].write_bytes(certificate.public_bytes(pem))
    paths[2].touch(mode=0o600)
    paths[2].write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def write_kubeconfig(path: Path, url: str, ca: Path, token: str) -> None:
    """Write the administrator's kubeconfig, readable by its owner only."""
    name = "tinyml-local"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": url,
                    "certificate-authority-data": base64.b64encode(ca.read_bytes()).decode(),
                },
            }
        ],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}
        ],
        "current-context": name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
