"""The certificate of a server: it is read again when its files change, so that a renewed one needs no restart."""

import ssl
from datetime import datetime, timedelta
from pathlib import Path

from tidemill.access.expiry import read_expiry
from tidemill.access.exposure import Exposure, load_certificate
from tidemill.errors import InputError
from tidemill.telemetry import get_logger

log = get_logger("access")
_WARNING = timedelta(days=30)
_Version = tuple[tuple[int, int, int, int] | None, ...]


class Certificate:
    """The certificate with which new connections are served, and the `problem` of files that replaced it.

    Open connections keep the certificate with which they began. Files that cannot be used change nothing: the earlier
    certificate stays in use, and `problem` says why, until the files are replaced again.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._version = self._stat()
        self.context: ssl.SSLContext = load_certificate(certificate, key)
        self.problem = ""
        self._expiry = read_expiry(certificate)

    def describe_problem(self, now: datetime) -> str:
        """Return the problem of files that replaced it, and from 30 days before it that it expires; may be empty."""
        if self._expiry is None or now < self._expiry - _WARNING:
            return self.problem
        verb = "expires" if now < self._expiry else "expired"
        expiry = f"the certificate {self._files[0]} {verb} on {self._expiry:%Y-%m-%d %H:%M} UTC: renew it"
        return "; ".join(filter(None, (self.problem, expiry)))

    def refresh(self) -> None:
        """Load the files if they have changed since the last call; cheap if they have not."""
        version = self._stat()
        if version == self._version:
            return
        self._version = version
        try:
            self.context = load_certificate(*self._files)
        except InputError as error:
            # A renewal writes two files: the next call sees the second one.
            self.problem = f"the renewed certificate is not used, the earlier one is: {error}"
            log.error("%s", self.problem)
        else:
            self.problem = ""
            self._expiry = read_expiry(self._files[0])
            log.warning("new connections are served with the renewed certificate %s", self._files[0])

    def _stat(self) -> _Version:
        """Return what changes when one of the files is written or replaced, also behind a symbolic link."""
        return tuple(_stat(file) for file in self._files)


def open_certificate(exposure: Exposure) -> Certificate | None:
    """Return the certificate of a server; None if it does not end TLS itself."""
    if exposure.tls_cert is None or exposure.tls_key is None:
        return None
    return Certificate(exposure.tls_cert, exposure.tls_key)


def _stat(file: Path) -> tuple[int, int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
