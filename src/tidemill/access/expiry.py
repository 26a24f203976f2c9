"""When a certificate expires: read from its bytes (X.509 in DER, RFC 5280, section 4.1), without a library for it."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_END = "-----END CERTIFICATE-----"
_EXPLICIT_VERSION, _UTC_TIME = 0xA0, 0x17


def read_expiry(file: Path) -> datetime | None:
    """Return the time after which the first certificate of a PEM file is not valid; None if it cannot be read."""
    try:
        text = file.read_text(encoding="ascii", errors="replace")
        begin = text.index("-----BEGIN CERTIFICATE-----")
        content = ssl.PEM_cert_to_DER_cert(text[begin : text.index(_END, begin) + len(_END)])
        (_, certificate), *_ = _iterate(content)
        (_, signed), *_ = _iterate(certificate)
        fields = [value for tag, value in _iterate(signed) if tag != _EXPLICIT_VERSION]
        _, (tag, end) = _iterate(fields[3])  # after the number, the algorithm and the issuer
        return datetime.strptime(end.decode(), "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ").replace(
            tzinfo=UTC
        )
    except (OSError, ValueError, LookupError):
        return None


def _iterate(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each value of DER."""
    position = 0
    while position < len(content):
        tag, length = content[position], content[position + 1]
        position += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(content[position : position + size], "big")
            position += size
        yield tag, content[position : position + length]
        position += length
