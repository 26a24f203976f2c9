"""Locks: the exact versions of the packages that a project needs, from those that are installed here."""

import ast
import re
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path, PurePosixPath

from msgspec import Struct

from tidemill.errors import InputError, MissingExtra

_HEADER = "# The exact versions of all packages{about}. Written by `tidemill ci lock`; Tidemill itself is not in it.\n"
_TEST_TOOLS = ("pytest",)


class Lock(Struct, frozen=True, kw_only=True):
    """The packages of a project, and those that only its tests need, as `name==version`."""

    runtime: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, str]:
        """Return the content of both files; that of the tests is empty if they need no package of their own."""
        tests = _render(self.tests, " that only the tests need") if self.tests else ""
        return _render(self.runtime, ""), tests


def _render(lines: Iterable[str], about: str) -> str:
    return _HEADER.format(about=about) + "".join(f"{line}\n" for line in lines)


def lock_project(sources: Mapping[str, str], more: Iterable[str] = ()) -> Lock:
    """Return the lock of a project: what Tidemill needs, and what the code of the project imports.

    Parameters
    ----------
    sources
        The Python files of the project, by their paths.
    more
        Further requirements, such as `river` or `tidemill[onnx]`.

    Raises
    ------
    InputError
        if an imported or required package is not installed.
    """
    code = {name: text for name, text in sources.items() if PurePosixPath(name).parts[0] != "tests"}
    tests = {name: text for name, text in sources.items() if name not in code}
    local = _list_local_modules(sources)
    runtime = _close(["tidemill", *more, *_find_packages(code, local)])
    tools = _TEST_TOOLS if tests else ()
    everything = _close([*runtime, *tools, *_find_packages(tests, local)]) if tests else runtime
    only_tests = {name: version for name, version in everything.items() if name not in runtime}
    return Lock(runtime=_to_lines(runtime), tests=_to_lines(only_tests))


def _to_lines(packages: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}=={version}" for name, version in sorted(packages.items()) if name != "tidemill")


def _list_local_modules(sources: Iterable[str]) -> set[str]:
    paths = [PurePosixPath(name) for name in sources]
    return {"tidemill"} | {path.stem for path in paths} | {part for path in paths for part in path.parts[:-1]}


def _find_packages(sources: Mapping[str, str], local: set[str]) -> list[str]:
    """Return the packages that code imports, without modules of the project and of the standard library."""
    known = packages_distributions()
    packages: set[str] = set()
    for name, text in sources.items():
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            raise InputError(f"{name}, line {error.lineno}: {error.msg}", "fix this line") from None
        for module in _list_imports(tree):
            if module in local or module in sys.stdlib_module_names:
                continue
            if module not in known:
                raise InputError(f"{name} imports {module!r}, which is not installed", "install its package first")
            packages |= set(known[module])
    return sorted(packages)


def _list_imports(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _close(requirements: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of packages and of all packages that these need on this machine."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        raise MissingExtra("packaging", "delivery") from None

    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    pending = [(Requirement(text), "") for text in requirements]
    while pending:
        requirement, needed_by = pending.pop()
        name = _normalize(requirement.name)
        package = _find(name, needed_by)
        versions[name] = package.version
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for text in package.requires or ():
                need = Requirement(text)
                applies = need.marker is None or need.marker.evaluate({"extra": extra})
                is_base = need.marker is None or need.marker.evaluate({"extra": ""})
                if applies and (not extra or not is_base):
                    pending.append((need, name))
    return versions


def _find(name: str, needed_by: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        reason = f", which {needed_by} needs" if needed_by else ""
        raise InputError(f"the package {name!r}{reason} is not installed", f"pip install {name}") from None


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_sources(folder: Path, names: Iterable[Path]) -> dict[str, str]:
    """Return the Python files among these files of a folder, as text."""
    return {
        file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8-sig", errors="replace")
        for file in names
        if file.suffix == ".py"
    }
