"""Which versions a package was made with, and how they differ from those that are here."""

import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version

from msgspec import Struct


class VersionDifference(Struct, frozen=True):
    """A package that is not here in the version that the model was made with; `here` is empty where it is missing."""

    package: str
    made_with: str
    here: str

    def __str__(self) -> str:
        return f"{self.package} {self.made_with} (here: {self.here or 'not installed'})"


def installed_versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of those of these packages that are installed here."""
    return {"python": platform.python_version()} | {name: found for name in packages if (found := _version(name))}


@cache
def lock_packages(*packages: str) -> tuple[str, ...]:
    """A lock: these packages and all that they need, as `name==version`, in the versions installed here.

    >>> lock_packages("msgspec", "nowhere")[0].split("==")[0]
    'msgspec'
    """
    found: dict[str, str] = {}
    asked = list(packages)
    while asked:
        name = re.sub(r"[-_.]+", "-", asked.pop()).lower()
        try:
            one = distribution(name)
        except PackageNotFoundError:
            continue  # needed elsewhere: by another system or Python
        if name not in found:
            found[name] = one.version
            asked += [_NAME.match(line)[0] for line in one.requires or () if "extra ==" not in line]  # type: ignore[index]
    return tuple(f"{name}=={found[name]}" for name in sorted(found))


_NAME = re.compile(r"[A-Za-z0-9._-]+")


def compare_versions(environment: Mapping[str, str]) -> list[VersionDifference]:
    """How what is here differs from the environment of a manifest; Python's own patch releases do not count.

    >>> [str(difference) for difference in compare_versions({"nowhere": "1.0"})]
    ['nowhere 1.0 (here: not installed)']
    """
    differences = []
    for package, made_with in environment.items():
        here = platform.python_version() if package == "python" else _version(package)
        same = _minor(here) == _minor(made_with) if package == "python" else here == made_with
        if not same:
            differences.append(VersionDifference(package, made_with, here))
    return differences


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _minor(python: str) -> list[str]:
    return python.split(".")[:2]
