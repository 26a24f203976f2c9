"""Host names and origins of requests: which names a server accepts, and whether a page of its own sent a request."""

import ipaddress
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

_HOST = re.compile(r"([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)")
_PORTS = {"http": 80, "https": 443}


class HostName(NamedTuple):
    """The name and the port of a `Host` header; the port is None if it is not written."""

    name: str
    port: int | None


def parse_host(text: str) -> HostName | None:
    """Return the parts of a `Host` header; None if it is malformed.

    >>> parse_host("[::1]:8000"), parse_host("Localhost"), parse_host("a b")
    (HostName(name='[::1]', port=8000), HostName(name='localhost', port=None), None)
    """
    found = _HOST.fullmatch(text.lower())
    if found is None:
        return None
    port = int(found[2]) if found[2] else None
    return HostName(found[1].rstrip("."), port) if port is None or port <= 65535 else None


def is_accepted(host: HostName, names: Collection[str]) -> bool:
    """Return whether a service answers requests for a host: an address, a name without a dot, or one of `names`.

    A foreign page can point a name of its own domain to this machine (DNS rebinding), and its browser then sends the
    requests of that page under this name. It can do that neither with an address nor with a name without a dot, which
    only the network of this machine resolves.
    """
    name = host.name
    if "." not in name or name in names or name.endswith(".localhost") or name.startswith("["):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def find_refused_host(values: Sequence[bytes], http_version: str, names: Collection[str] | None) -> str | None:
    """Return what is wrong with the `Host` headers of a request; None if they are accepted.

    `names` are accepted besides addresses and local names; None accepts every name.
    """
    if not values:
        return None if http_version == "1.0" else "the request has no Host header"
    if len(values) > 1:
        return "the request has several Host headers"
    host = parse_host(values[0].decode("latin-1"))
    if host is None:
        return "the Host header is malformed"
    if names is not None and not is_accepted(host, names):
        return f"the host name {host.name[:100]} is not accepted"
    return None


def find_refused_origin(origins: Sequence[bytes], host: bytes, scheme: str = "") -> str | None:
    """Return why a request does not come from a page of this server; None if it does, or from a program.

    Browsers name the origin of the page that sends a request. It must have the scheme, the name and the port to which
    the request was sent. Without a `scheme`, that of the origin is not compared: a proxy may end TLS.
    """
    if not origins:
        return None
    if len(origins) > 1:
        return "the request has several Origin headers"
    origin = origins[0].decode("latin-1")
    found = _ORIGIN.fullmatch(origin.lower())
    sender = parse_host(found[2]) if found else None
    if found is None or sender is None:
        return "the request comes from a web page without an origin" if origin == "null" else "its Origin is malformed"
    target = parse_host(host.decode("latin-1"))
    if target is None or (scheme and found[1] != scheme) or sender.name != target.name:
        return "the request comes from a web page of another origin"
    if (sender.port or _PORTS.get(found[1])) != (target.port or _PORTS.get(scheme or found[1])):
        return "the request comes from a web page of another port"
    return None
