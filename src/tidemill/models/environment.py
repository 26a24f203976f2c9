"""Which versions a package was made with, and how they differ from those that are here."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from msgspec import Struct


class Difference(Struct, frozen=True):
    """A package that is not here in the version that the model was made with; `here` is empty where it is missing."""

    package: str
    made_with: str
    here: str

    def __str__(self) -> str:
        return f"{self.package} {self.made_with} (here: {self.here or 'not installed'})"


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of those of these packages that are installed here."""
    return {"python": platform.python_version()} | {name: found for name in packages if (found := _version(name))}


def compare(environment: Mapping[str, str]) -> list[Difference]:
    """How what is here differs from the environment of a manifest; Python's own patch releases do not count.

    >>> [str(difference) for difference in compare({"nowhere": "1.0"})]
    ['nowhere 1.0 (here: not installed)']
    """
    differences = []
    for package, made_with in environment.items():
        here = platform.python_version() if package == "python" else _version(package)
        same = _minor(here) == _minor(made_with) if package == "python" else here == made_with
        if not same:
            differences.append(Difference(package, made_with, here))
    return differences


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _minor(python: str) -> list[str]:
    return python.split(".")[:2]
