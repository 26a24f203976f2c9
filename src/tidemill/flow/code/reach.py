"""Finds all source that the code of a step can reach by imports and names; in doubt, source is included."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tidemill.flow.code.modules import (
    ProjectModule,
    digest_package,
    find_project_module,
    list_sources,
    list_top_level_names,
    top_level_name,
)
from tidemill.flow.code.syntax import Import, Statement, parse_statements

# Functions that start other programs: a single word can then be the name of a module.
_STARTERS = frozenset({"subprocess", "system", "popen", "Popen", "spawnv", "execv"})

Root = tuple[str, str]


class ReachedSource:
    """The source that can affect functions and classes, which are listed by module and name.

    Of an imported module, all statements count that do more than define a name. A definition counts if any counted
    source mentions its name. If names are looked up at run time, all definitions count. If code is loaded at run
    time, all files of the project count.
    """

    def __init__(self, roots: Iterable[Root]) -> None:
        self._tops = list_top_level_names()
        self._modules: dict[str, _Module] = {}
        self._known: dict[str, ProjectModule | None] = {}
        self._mentioned: set[str] = set()
        self._uncounted: defaultdict[str, list[tuple[_Module, Statement]]] = defaultdict(list)
        self._words: list[tuple[str, ProjectModule]] = []
        self._packages: set[str] = set()
        self._everything: set[str] = set()
        self._looks_up = self._reads_docs = self._reads_source = False
        for module, name in sorted(roots):
            self._mention((name,))
            if find_project_module(module) is not None:
                self._module(module)
        self._widen()

    @property
    def modules(self) -> dict[str, str]:
        """The digests of the counted statements, by module."""
        parts: defaultdict[str, list[str]] = defaultdict(list)
        for module in self._modules.values():
            parts[module.project_module.label].append(self._digest(module))
        return {label: "".join(sorted(digests)) for label, digests in sorted(parts.items())}

    @property
    def others(self) -> list[str]:
        """Installed packages and files that are loaded at run time, with their digests."""
        return [
            f"{name} {digest}" for name in sorted(self._packages) if (digest := digest_package(name))
        ] + self._files()

    @property
    def counted(self) -> list[tuple[ProjectModule, list[Statement]]]:
        """The counted statements, by module."""
        return [
            (module.project_module, [statement for statement in module.statements if statement in module.counted])
            for module in self._modules.values()
        ]

    def _digest(self, module: "_Module") -> str:
        return self._hash(module, [statement for statement in module.statements if statement in module.counted])

    def _hash(self, module: "_Module", statements: Iterable[Statement]) -> str:
        content = hashlib.sha256()
        if self._reads_source or module.is_opaque:
            content.update(module.source)
        for statement in statements:
            read = statement.content_with_docstrings if self._reads_docs else statement.content
            content.update(read.text.encode(errors="surrogatepass") + b"\0")
        return content.hexdigest()

    def _files(self) -> list[str]:
        """Return the digests of all source in folders whose code is loaded at run time."""
        digests = []
        for folder in self._everything:
            for file in list_sources(folder):
                module = _Module(ProjectModule(file.stem, str(file), ()))
                name = file.relative_to(folder).as_posix()
                digests.append(f"{name} {self._hash(module, module.statements)}")
        return sorted(digests)

    def _find(self, name: str) -> ProjectModule | None:
        """Return a module of the project; for another module, record its package and return None."""
        if name not in self._known:
            self._known[name] = project_module = find_project_module(name)
            top = top_level_name(name)
            if project_module is None and top != "tidemill" and find_project_module(top) is None:
                self._packages.add(top)
        return self._known[name]

    def _module(self, name: str) -> None:
        """Count a module of the project and its parent packages."""
        project_module = self._find(name)
        if project_module is None:
            return
        if parent := name.rpartition(".")[0]:
            self._module(parent)
        key = project_module.file or project_module.name
        if key in self._modules:
            return
        module = self._modules[key] = _Module(project_module)
        for statement in module.statements:
            for imported in statement.imports:
                self._import(imported, module.project_module)
            if not statement.defines or not self._mentioned.isdisjoint(statement.defines):
                self._count(module, statement)
            else:
                for defined in statement.defines:
                    self._uncounted[defined].append((module, statement))

    def _count(self, module: "_Module", statement: Statement) -> None:
        if statement in module.counted:
            return
        module.counted.add(statement)
        content = statement.content
        self._looks_up |= content.looks_up
        self._reads_docs |= content.reads_docs
        self._reads_source |= content.reads_source
        if content.loads:
            self._looks_up = True
            self._everything.add(module.project_module.root)
        module.bare |= content.bare
        for imported in content.imports:
            self._import(imported, module.project_module)
            if imported.level == 0 and top_level_name(imported.name) == "tidemill":
                self._packages.add("tidemill")
        for path in content.paths:
            if "." in path or "/" in path:
                self._count_named_module(path, module.project_module)
            else:
                self._words.append((path, module.project_module))
        self._mention(content.names)

    def _mention(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._mentioned:
                self._mentioned.add(name)
                for module, statement in self._uncounted.pop(name, ()):
                    self._count(module, statement)

    def _import(self, imported: Import, importer: ProjectModule) -> None:
        base, *members = _list_imported_modules(imported, importer) or [""]
        if base:
            self._module(base)
        for member in members:
            if find_project_module(member) is not None:
                self._module(member)

    def _count_named_module(self, path: str, importer: ProjectModule) -> None:
        """Count the module that a text can name by its name or its path."""
        stripped = path.lstrip(".")
        name = _resolve(stripped.replace("/", "."), len(path) - len(stripped), importer)
        if top_level_name(name) not in self._tops and top_level_name(name) not in sys.modules:
            return
        while name and find_project_module(name) is None:
            name = name.rpartition(".")[0]
        if name:
            self._module(name)

    def _widen(self) -> None:
        """Count the statements that only a lookup at run time can reach, if the code has one."""
        if not self._mentioned.isdisjoint(_STARTERS):
            for word, importer in list(self._words):
                self._count_named_module(word, importer)
        if not self._looks_up and not self._passes_module():
            return
        before = -1
        while before != (before := sum(len(module.counted) for module in self._modules.values())):
            for module in list(self._modules.values()):
                for statement in module.statements:
                    self._count(module, statement)

    def _passes_module(self) -> bool:
        """Return whether a module is passed as a value: the receiver can use any of its names."""
        return any(
            imported.bound in module.bare
            and any(
                find_project_module(name) is not None
                for name in _list_imported_modules(imported, module.project_module)[-1:]
            )
            for module in self._modules.values()
            for statement in module.counted
            for imported in statement.content.imports
        )


class _Module:
    """A reached module with its statements and the counted ones. A module that cannot be parsed is opaque."""

    def __init__(self, project_module: ProjectModule) -> None:
        self.project_module = project_module
        self.counted: set[Statement] = set()
        self.bare: set[str] = set()
        self.statements: tuple[Statement, ...] = ()
        try:
            self.source = Path(project_module.file).read_bytes() if project_module.file else b""
        except OSError:
            self.source = b""
        self.is_opaque = not project_module.file.endswith(".py")
        try:
            self.statements = parse_statements(self.source) if not self.is_opaque else ()
        except (SyntaxError, ValueError, RecursionError):
            self.is_opaque = True


def _list_imported_modules(imported: Import, importer: ProjectModule) -> list[str]:
    """Return the modules that an import can load; the last one is the module of the bound name."""
    base = _resolve(imported.name, imported.level, importer)
    if not base:
        return []
    return [base, f"{base}.{imported.member}"] if imported.member not in ("", "*") else [base]


def _resolve(name: str, level: int, importer: ProjectModule) -> str:
    """Return the full name of an import, empty if a relative import leaves its package."""
    if not level:
        return name
    package = importer.package.split(".") if importer.package else []
    if level > len(package):
        return ""
    parents = package[: len(package) - level + 1]
    return ".".join([*parents, name] if name else parents)
