"""All source that a step's code can reach by imports and names; what cannot be excluded counts."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tidemill.flow.code.modules import Found, find, installed, sources_below, top_of, tops
from tidemill.flow.code.syntax import Import, Statement, statements

# What starts other programs: a single word may then be the name of a module.
_STARTERS = frozenset({"subprocess", "system", "popen", "Popen", "spawnv", "execv"})

Root = tuple[str, str]


class Reached:
    """The source that counts for some functions and classes, each given by its module and its name there.

    A module that is imported, at once or later, counts with each statement that does more than define a name; a
    definition counts where any counted source mentions its name. Where names are looked up at run time every
    definition counts; where code is loaded at run time, every file of the project does.
    """

    def __init__(self, roots: Iterable[Root]) -> None:
        self._tops = tops()
        self._modules: dict[str, _Module] = {}
        self._known: dict[str, Found | None] = {}
        self._mentioned: set[str] = set()
        self._waiting: defaultdict[str, list[tuple[_Module, Statement]]] = defaultdict(list)
        self._words: list[tuple[str, Found]] = []
        self._packages: set[str] = set()
        self._everything: set[str] = set()
        self._looks_up = self._reads_docs = self._reads_source = False
        for module, name in sorted(roots):
            self._mention((name,))
            if find(module) is not None:
                self._module(module)
        self._widen()

    @property
    def modules(self) -> dict[str, str]:
        """By the names of modules the digests of what counts in them."""
        parts: defaultdict[str, list[str]] = defaultdict(list)
        for module in self._modules.values():
            parts[module.found.label].append(self._digest(module))
        return {label: "".join(sorted(digests)) for label, digests in sorted(parts.items())}

    @property
    def others(self) -> list[str]:
        """Installed packages, and files that are loaded at run time, with their digests."""
        return [f"{name} {digest}" for name in sorted(self._packages) if (digest := installed(name))] + self._files()

    @property
    def counted(self) -> list[tuple[Found, list[Statement]]]:
        """The statements that count, by module."""
        return [
            (module.found, [one for one in module.statements if one in module.counted])
            for module in self._modules.values()
        ]

    def _digest(self, module: "_Module") -> str:
        return self._hash(module, [one for one in module.statements if one in module.counted])

    def _hash(self, module: "_Module", statements: Iterable[Statement]) -> str:
        content = hashlib.sha256()
        if self._reads_source or module.is_opaque:
            content.update(module.source)
        for statement in statements:
            read = statement.content_with_docstrings if self._reads_docs else statement.content
            content.update(read.text.encode(errors="surrogatepass") + b"\0")
        return content.hexdigest()

    def _files(self) -> list[str]:
        """The digests of all source in the folders whose code is loaded at run time."""
        found = []
        for folder in self._everything:
            for file in sources_below(folder):
                module = _Module(Found(file.stem, str(file), ()))
                name = file.relative_to(folder).as_posix()
                found.append(f"{name} {self._hash(module, module.statements)}")
        return sorted(found)

    def _find(self, name: str) -> Found | None:
        """A module of the project; of another one the package is noted."""
        if name not in self._known:
            self._known[name] = found = find(name)
            top = top_of(name)
            if found is None and top != "tidemill" and find(top) is None:
                self._packages.add(top)
        return self._known[name]

    def _module(self, name: str) -> None:
        """Count a module of the project, and the packages that it lies in."""
        found = self._find(name)
        if found is None:
            return
        if parent := name.rpartition(".")[0]:
            self._module(parent)
        key = found.file or found.name
        if key in self._modules:
            return
        module = self._modules[key] = _Module(found)
        for statement in module.statements:
            for one in statement.imports:
                self._import(one, module.found)
            if not statement.defines or not self._mentioned.isdisjoint(statement.defines):
                self._count(module, statement)
            else:
                for defined in statement.defines:
                    self._waiting[defined].append((module, statement))

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
            self._everything.add(module.found.root)
        module.bare |= content.bare
        for one in content.imports:
            self._import(one, module.found)
            if one.level == 0 and top_of(one.name) == "tidemill":
                self._packages.add("tidemill")
        for path in content.paths:
            if "." in path or "/" in path:
                self._named(path, module.found)
            else:
                self._words.append((path, module.found))
        self._mention(content.names)

    def _mention(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._mentioned:
                self._mentioned.add(name)
                for module, statement in self._waiting.pop(name, ()):
                    self._count(module, statement)

    def _import(self, one: Import, importer: Found) -> None:
        base, *members = _modules(one, importer) or [""]
        if base:
            self._module(base)
        for member in members:
            if find(member) is not None:
                self._module(member)

    def _named(self, path: str, importer: Found) -> None:
        """A text may be the name or the path of a module that is loaded by it."""
        stripped = path.lstrip(".")
        name = _resolved(stripped.replace("/", "."), len(path) - len(stripped), importer)
        if top_of(name) not in self._tops and top_of(name) not in sys.modules:
            return
        while name and find(name) is None:
            name = name.rpartition(".")[0]
        if name:
            self._module(name)

    def _widen(self) -> None:
        """Count what only a lookup at run time can reach, where there is one."""
        if not self._mentioned.isdisjoint(_STARTERS):
            for word, importer in list(self._words):
                self._named(word, importer)
        if not self._looks_up and not self._hands_on():
            return
        before = -1
        while before != (before := sum(len(module.counted) for module in self._modules.values())):
            for module in list(self._modules.values()):
                for statement in module.statements:
                    self._count(module, statement)

    def _hands_on(self) -> bool:
        """Whether a module is handed on as a value: whoever gets it may take anything from it."""
        return any(
            one.bound in module.bare and any(find(name) is not None for name in _modules(one, module.found)[-1:])
            for module in self._modules.values()
            for statement in module.counted
            for one in statement.content.imports
        )


class _Module:
    """A module that is reached: its statements, and those of them that count. One that cannot be parsed is opaque."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.counted: set[Statement] = set()
        self.bare: set[str] = set()
        self.statements: tuple[Statement, ...] = ()
        try:
            self.source = Path(found.file).read_bytes() if found.file else b""
        except OSError:
            self.source = b""
        self.is_opaque = not found.file.endswith(".py")
        try:
            self.statements = statements(self.source) if not self.is_opaque else ()
        except (SyntaxError, ValueError, RecursionError):
            self.is_opaque = True


def _modules(one: Import, importer: Found) -> list[str]:
    """The modules that an import may bring, the one that its name stands for last."""
    base = _resolved(one.name, one.level, importer)
    if not base:
        return []
    return [base, f"{base}.{one.member}"] if one.member not in ("", "*") else [base]


def _resolved(name: str, level: int, importer: Found) -> str:
    """The full name of what is imported; empty where a relative import leads out of its package."""
    if not level:
        return name
    package = importer.package.split(".") if importer.package else []
    if level > len(package):
        return ""
    kept = package[: len(package) - level + 1]
    return ".".join([*kept, name] if name else kept)
