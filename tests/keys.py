"""Signing keys for tests, made by OpenSSL as the documentation says."""

import subprocess
from pathlib import Path

_OPTIONS = {"ed25519": ("ED25519",), "p256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256")}


def make_key(folder: Path, name: str, kind: str) -> tuple[Path, Path]:
    """Write a new private key and its public key to a folder; `kind` is `ed25519` or `p256`."""
    key, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    subprocess.run(("openssl", "genpkey", "-algorithm", *_OPTIONS[kind], "-out", str(key)), check=True)
    subprocess.run(("openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)), check=True)
    return key, public
