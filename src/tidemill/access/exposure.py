"""Exposure: at which address a server may listen, and with which protection."""

import ipaddress
import socket
import ssl
from pathlib import Path

from msgspec import Struct

from tidemill.errors import InputError

_PROTECT = "set --tls-cert FILE and --tls-key FILE, or --behind-proxy if a proxy in front of it ends TLS"


class Exposure(Struct, frozen=True, kw_only=True):
    """The address of a server and its protection.

    Attributes
    ----------
    host
        An IP address, or localhost.
    tls_cert, tls_key
        The PEM files of the certificate, with its chain, and of its private key; both or none.
    behind_proxy
        Whether a proxy in front of the server ends TLS.
    require_tokens
        Whether requests need a token even on loopback and before the first token exists.
    """

    host: str = "127.0.0.1"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False
    require_tokens: bool = False

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine can reach the address."""
        return is_loopback(self.host)

    @property
    def has_tls(self) -> bool:
        """Return whether the server itself ends TLS."""
        return self.tls_cert is not None

    @property
    def needs_tokens(self) -> bool:
        """Return whether every request needs a token, whether or not a token was created."""
        return self.require_tokens or self.behind_proxy or not self.is_loopback

    @property
    def scheme(self) -> str:
        """Return the scheme of the server's address."""
        return "https" if self.has_tls else "http"

    def format_address(self, listener: socket.socket) -> str:
        """Return the URL of a server that listens on a socket."""
        host, port = listener.getsockname()[:2]
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether a host is localhost or an address of the loopback interface."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(exposure: Exposure, what: str = "the service") -> None:
    """Raise `InputError` if a server must not listen at this address, or if its certificate cannot be used."""
    host = exposure.host
    if host != "localhost" and not _is_address(host):
        raise InputError(f"{what} cannot listen on {host!r}: it is not an IP address", "use 127.0.0.1, 0.0.0.0 or ::")
    if (exposure.tls_cert is None) != (exposure.tls_key is None):
        missing = "--tls-key" if exposure.tls_key is None else "--tls-cert"
        raise InputError(f"{missing} is missing", "a certificate and its private key are used together")
    if not exposure.is_loopback and not exposure.has_tls and not exposure.behind_proxy:
        raise InputError(f"{what} cannot listen on {host} without TLS: others could read its tokens", _PROTECT)
    if exposure.tls_cert is not None and exposure.tls_key is not None:
        load_certificate(exposure.tls_cert, exposure.tls_key)


def require_tokens(exposure: Exposure, *, has_tokens: bool, what: str = "the service") -> None:
    """Raise `InputError` if a server needs tokens and no token was ever created."""
    if exposure.needs_tokens and not has_tokens:
        raise InputError(
            f"{what} accepts only requests with a token, and no token exists",
            "create one: `tidemill tokens create NAME --role ROLE`",
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def load_certificate(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the settings of TLS with a certificate; raise `InputError` if it cannot be used."""
    for file in (certificate, key):
        if not file.is_file():
            raise InputError(f"{file} is not a file", "use PEM files of a certificate and its private key")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A key with a password would ask for it on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"the certificate {certificate} and the key {key} cannot be used: {reason}",
            "use PEM files that belong together, a key without a password, and check their permissions",
        ) from None
    return context
