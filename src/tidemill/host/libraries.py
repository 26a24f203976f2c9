"""The system libraries on which Python and the packages of a build depend, with their versions."""

import platform
import shutil
import sqlite3
import ssl
import subprocess
import zlib
from contextlib import suppress

_DEBIAN = ("libc6", "libgomp1", "libstdc++6", "libgcc-s1", "libssl3", "libssl3t64", "zlib1g", "libffi8", "liblzma5")
_FEDORA = ("glibc", "libgomp", "libstdc++", "libgcc", "openssl-libs", "zlib", "libffi", "xz-libs")
_SECONDS = 20


def list_system_libraries() -> dict[str, str]:
    """Return the versions of the system, of libc, OpenSSL, SQLite, zlib, and of the packages with C++ and OpenMP."""
    name, version = platform.libc_ver()
    found = {
        "system": f"{platform.system()} {platform.machine()}",
        name or "libc": version,
        "openssl": ssl.OPENSSL_VERSION.split()[1] if " " in ssl.OPENSSL_VERSION else ssl.OPENSSL_VERSION,
        "sqlite": sqlite3.sqlite_version,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }
    if shutil.which("dpkg-query"):
        found |= _query("dpkg-query", "-W", "-f", "${Package} ${Version}\\n", *_DEBIAN)
    elif shutil.which("rpm"):
        found |= _query("rpm", "-q", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\\n", *_FEDORA)
    return {name: version for name, version in sorted(found.items()) if version}


def _query(*command: str) -> dict[str, str]:
    """Return the versions of installed packages; a package that is not installed is absent."""
    with suppress(OSError, subprocess.TimeoutExpired):
        process = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        lines = (line.split() for line in process.stdout.splitlines())
        return {fields[0]: fields[1] for fields in lines if len(fields) == 2}
    return {}
