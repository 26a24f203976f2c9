"""A second opinion on a pickle: the scanner picklescan, if it is installed."""

import io
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tidemill.models.formats import decompress

_PACKAGE = "picklescan"
_MOST_BYTES = 1 << 28


def scan_pickle(content: bytes) -> dict[str, Any]:
    """Return what picklescan reports, for the evidence of a package; without it, that it is not installed.

    Its names of dangerous imports are those of its own list, which is maintained as new attacks become known.
    """
    try:
        from picklescan.scanner import SafetyLevel, scan_pickle_bytes

        name = f"{_PACKAGE} {version(_PACKAGE)}"
    except (ImportError, PackageNotFoundError):
        return {"scanner": "none: pip install 'tidemill[scan]' for a second opinion"}
    try:
        report = scan_pickle_bytes(io.BytesIO(decompress(content, _MOST_BYTES)), "model")
    except Exception as error:  # noqa: BLE001 - it reads hostile bytes
        return {"scanner": name, "scanner_failed": f"{type(error).__name__}: {error}"[:200]}
    found = [one for one in report.globals if one.safety == SafetyLevel.Dangerous]
    dangerous = sorted({f"{one.module}.{one.name}" for one in found})
    return {"scanner": name, "dangerous": dangerous, "scanner_complete": not report.scan_err}
