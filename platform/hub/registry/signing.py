"""Signatures over manifests: Ed25519, one key per installation.

The key is ``SPARSEWRIGHT_SIGNING_KEY`` (base64 of the 32 private bytes; needed where several machines serve the web
tier), else the file ``signing.key`` in the data folder, made at first use.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

ALGORITHM = "Ed25519"


def _key_text() -> tuple[str, str]:
    """The key's base64 and where it was found, for messages."""
    if settings.SIGNING_KEY:
        return settings.SIGNING_KEY, "SPARSEWRIGHT_SIGNING_KEY"
    path = Path(settings.DATA_DIR) / "signing.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".signing-") as file:  # mode 0600
            file.write(base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()))
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another process was first; its key counts
                os.link(file.name, path)
    return path.read_text(encoding="ascii"), str(path)


def private_key() -> Ed25519PrivateKey:
    text, source = _key_text()
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text.strip(), validate=True))
    except (binascii.Error, ValueError):
        raise ImproperlyConfigured(f"{source} must hold the base64 of the 32 bytes of an Ed25519 key.") from None


def sign(content: bytes) -> bytes:
    """The content of ``manifest.sig``: base64 of the 64 bytes of the signature, and a newline."""
    return base64.b64encode(private_key().sign(content)) + b"\n"


def public_key() -> dict[str, str]:
    """``{"algorithm", "public_key": base64 of 32 bytes, "pem"}``."""
    key = private_key().public_key()
    return {
        "algorithm": ALGORITHM,
        "public_key": base64.b64encode(key.public_bytes_raw()).decode(),
        "pem": key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    }
