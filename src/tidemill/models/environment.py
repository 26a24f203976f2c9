"""The package versions that a model was created with, compared with the installed versions."""

import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version

from msgspec import Struct


class VersionDifference(Struct, frozen=True):
    """A package that is not installed in the version of the model; `here` is "" if it is missing."""

    package: str
    made_with: str
    here: str

    def __str__(self) -> str:
        return f"{self.package} {self.made_with} (installed: {self.here or 'none'})"


def list_versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of these packages, without those that are not installed."""
    return {"python": platform.python_version()} | {
        name: version for name in packages if (version := _find_version(name))
    }


@cache
def lock_packages(*packages: str) -> tuple[str, ...]:
    """Return a lock: these packages and their dependencies as `name==version`, in the installed versions.

    >>> lock_packages("msgspec", "nowhere")[0].split("==")[0]
    'msgspec'
    """
    versions: dict[str, str] = {}
    pending = list(packages)
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # needed only on other systems or versions of Python
        if name not in versions:
            versions[name] = package.version
            pending += [_NAME.match(line)[0] for line in package.requires or () if "extra ==" not in line]  # type: ignore[index]
    return tuple(f"{name}=={versions[name]}" for name in sorted(versions))


_NAME = re.compile(r"[A-Za-z0-9._-]+")


def compare_versions(environment: Mapping[str, str]) -> list[VersionDifference]:
    """Compare the installed versions with the environment of a manifest; patch releases of Python are ignored.

    >>> [str(difference) for difference in compare_versions({"nowhere": "1.0"})]
    ['nowhere 1.0 (installed: none)']
    """
    differences = []
    for package, made_with in environment.items():
        here = platform.python_version() if package == "python" else _find_version(package)
        same = _read_minor_version(here) == _read_minor_version(made_with) if package == "python" else here == made_with
        if not same:
            differences.append(VersionDifference(package, made_with, here))
    return differences


def _find_version(package: str) -> str:
    try:
        return _read_version(package)
    except PackageNotFoundError:
        return ""


_read_version = cache(version)  # a package that is installed anew in a running process is still the old one there


def _read_minor_version(python: str) -> list[str]:
    return python.split(".")[:2]
