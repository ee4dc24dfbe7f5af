"""The platform's signature over a version's manifest: Ed25519, one key for each installation.

A key is written as the base64 of its 32 public bytes, as the platform publishes it. ``manifest.sig`` is the base64 of
the signature over the bytes of ``manifest.json``.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pst_client.errors import Damaged, PlatformError
from pst_client.layout import MANIFEST, SIGNATURE


def check(folder: Path, *, key: str) -> None:
    """Raise :class:`Damaged` unless ``manifest.sig`` in ``folder`` is ``key``'s signature over ``manifest.json``, and
    PlatformError where ``key`` is none."""
    public = read_key(key)
    try:
        signature = base64.b64decode((folder / SIGNATURE).read_bytes().strip(), validate=True)
        public.verify(signature, (folder / MANIFEST).read_bytes())
    except (InvalidSignature, binascii.Error):
        raise Damaged(
            f"{SIGNATURE} is no signature over {MANIFEST} by the key {key}: the version was altered on its way, or it "
            "was signed with another key; name that with --signing-key if you know it."
        ) from None


def read_key(text: str) -> Ed25519PublicKey:
    """Raises PlatformError for what is no key."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise PlatformError("usage", f"{text[:100]!r} is no signing key: give the base64 of its 32 bytes.") from None
