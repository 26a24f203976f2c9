"""Programs of several modules, and edits of them at any place: what the fingerprint of a step is held against.

`python -m tests.flow.programs --edits 5000` makes so many edits and reports every one that changed what the step
returns but not its fingerprint.
"""

import argparse
import ast
import copy
import importlib
import re
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.flow.program_parts import CHAINS, PARTS
from tidemill.flow.fingerprint import fingerprint

_MODULES = ("lib.a", "lib.b", "lib.deep.c", "extra")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_TOPS = ("steps", "lib", "extra", "unused")
_OPERATORS = (ast.Add, ast.Sub, ast.Mult)
_COMPARISONS = (ast.Lt, ast.Gt, ast.LtE, ast.GtE, ast.Eq, ast.NotEq)

Sources = dict[str, str]


class Observed(NamedTuple):
    """A program as a cache sees it: the step's fingerprint, and what the step returns or raises."""

    key: str
    result: str


def program(random: Random) -> Sources:
    """The modules of a program by file; the step is `fit` of `steps`, and uses a few parts in various ways."""
    bodies: dict[str, list[str]] = {name: [] for name in ("steps", "lib", "lib.deep", *_MODULES)}
    heads: list[str] = []
    lines: list[str] = []
    for number in range(random.randint(2, 5)):
        part = random.choice(PARTS)
        names = {"n": f"_{number}", "k": str(random.randint(1, 9)), "m": str(random.randint(10, 19))}
        code = textwrap.dedent(part.code).format(**names)
        expression = part.use.format(**names)
        home = random.choice(("steps", *_MODULES))
        bodies[home].append(code)
        head, late = _access(random, home, f"{part.provides.format(**names)}", number)
        heads += head
        lines += late
        lines.append(f"found.append(({expression},))")
    if random.random() < 0.5:
        files, line = random.choice(CHAINS)
        for name, text in files.items():
            bodies[name].append(textwrap.dedent(text))
        bodies["steps"].append(f"def chained(x):\n    {line}")
        lines.append("found.append(chained(x))")
    step = "\n".join(["def fit(x):", "    found = []", *(f"    {line}" for line in lines), "    return found"])
    if random.random() < 0.5:
        step = "from tidemill import step\n@step\n" + step
    bodies["steps"] = [*dict.fromkeys(heads), *bodies["steps"], "def another(x):\n    return x * 77", step]
    files = {f"{name.replace('.', '/')}.py": "\n".join(parts) + "\n" for name, parts in bodies.items()}
    for package in ("lib", "lib/deep"):
        files[f"{package}/__init__.py"] = files.pop(f"{package}.py")
    return files | {"unused.py": "def clean(x):\n    return x + 5\n"}


def _access(random: Random, home: str, name: str, number: int) -> tuple[list[str], list[str]]:
    """How `fit` comes by a name of a module: lines for the top of its module, and lines for its body."""
    if home == "steps":
        return [], []
    package, _, last = home.rpartition(".")
    ways: list[tuple[list[str], list[str]]] = [
        ([f"from {home} import {name}"], []),
        ([f"import {home}"], [f"{name} = {home}.{name}"]),
        ([], [f"from {home} import {name}"]),
        ([], [f"import {home} as late", f"{name} = late.{name}"]),
        (["import importlib"], [f"{name} = importlib.import_module('{home}').{name}"]),
        (
            ["import importlib"],
            [f"where{number} = '{home}'", f"{name} = importlib.import_module(where{number}).{name}"],
        ),
        ([f"import {home} as mod{number}"], [f"{name} = getattr(mod{number}, '{name}')"]),
        ([f"from {home} import *"], []),
        ([f"import {home} as all{number}"], [f"{name} = vars(all{number})['{name[:2]}' + '{name[2:]}']"]),
        (["import sys", f"import {home}"], [f"{name} = sys.modules['{home}'].{name}"]),
    ]
    if package:
        ways.append(([f"from {package} import {last} as mod{number}"], [f"{name} = mod{number}.{name}"]))
        ways.append(
            ([f"import {package}.{last}", f"box{number} = [{package}.{last}]"], [f"{name} = box{number}[0].{name}"])
        )
    return random.choice(ways)


def edited(random: Random, sources: Sources) -> Sources:
    """The program with one edit somewhere that may change a result."""
    files = [name for name, text in sources.items() if text.strip()]
    for _ in range(50):
        name = random.choice(files)
        tree = ast.parse(sources[name])
        if _edit(random, tree):
            text = ast.unparse(ast.fix_missing_locations(tree)) + "\n"
            if text != ast.unparse(ast.parse(sources[name])) + "\n":
                return sources | {name: text}
    return sources


def relaid(random: Random, sources: Sources) -> Sources:
    """The program with other comments, docstrings and layout."""
    found = {}
    for name, text in sources.items():
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not _has_docstring(node):
                node.body.insert(0, ast.Expr(ast.Constant(f"Explains {random.random()}.")))
        lines = [f"{line}  # {random.random()}" if _may_end(line) else line for line in ast.unparse(tree).splitlines()]
        found[name] = "\n\n".join(["# begins", *lines]) + "\n"
    return found


def _has_docstring(node: ast.FunctionDef | ast.ClassDef) -> bool:
    first = node.body[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _may_end(line: str) -> bool:
    return bool(line.strip()) and not line.rstrip().endswith("\\")


def _edit(random: Random, tree: ast.Module) -> bool:
    """Edit one node in place; whether that was possible."""
    nodes = [node for node in ast.walk(tree) if not isinstance(node, ast.Module | ast.expr_context)]
    node = random.choice([*nodes, tree])
    names = [one.id for one in ast.walk(tree) if isinstance(one, ast.Name)]
    if isinstance(node, ast.Constant):
        node.value = _another(random, node.value)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, _OPERATORS):
        node.op = random.choice(_OPERATORS)()
    elif isinstance(node, ast.Compare):
        node.ops = [random.choice(_COMPARISONS)() for _ in node.ops]
    elif isinstance(node, ast.keyword) and node.arg:
        node.arg = random.choice(("alpha", "beta", "by", "gamma"))
    elif isinstance(node, ast.List | ast.Tuple | ast.Set) and len(node.elts) > 1:
        node.elts = random.sample(node.elts, len(node.elts))
    elif isinstance(node, ast.Dict) and len(node.keys) > 1:
        order = random.sample(range(len(node.keys)), len(node.keys))
        node.values = [node.values[place] for place in order]
    elif isinstance(node, ast.Name) and names:
        node.id = random.choice(names)
    elif isinstance(node, ast.Call) and len(node.args) > 1:
        node.args = random.sample(node.args, len(node.args))
    elif isinstance(node, ast.IfExp):
        node.body, node.orelse = node.orelse, node.body
    elif isinstance(node, ast.FunctionDef) and node.decorator_list and random.random() < 0.4:
        node.decorator_list = node.decorator_list[1:]
    elif isinstance(node, ast.arguments) and node.defaults:
        node.defaults = [ast.Constant(random.randint(20, 40)) for _ in node.defaults]
    elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module) and len(node.body) > 1:
        _reorder(random, node.body)
    else:
        return False
    return True


def _another(random: Random, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + random.choice((-2, -1, 1, 2, 0.5))
    if isinstance(value, float):
        return value * 2
    if isinstance(value, str):
        return random.choice((value + "x", value.swapcase(), value[::-1], "alpha", "by"))
    return b"zz" if isinstance(value, bytes) else 3 if value is None else value


def _reorder(random: Random, body: list[ast.stmt]) -> None:
    """Swap, double or remove statements, or swap what two functions do."""
    one, other = random.sample(range(len(body)), 2)
    first, second = body[one], body[other]
    match random.randint(0, 3):
        case 0:
            body[one], body[other] = second, first
        case 1:
            body.insert(other, copy.deepcopy(first))
        case 2:
            del body[one]
        case _:
            if isinstance(first, ast.FunctionDef) and isinstance(second, ast.FunctionDef):
                first.body, second.body = second.body, first.body


@contextmanager
def loaded_from(folder: Path) -> Iterator[None]:
    """Here the modules of programs are imported from a folder, and leave nothing behind."""
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
        _unload()


def _unload() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in _TOPS]:
        del sys.modules[name]


def observed(folder: Path, sources: Sources) -> Observed | None:
    """What a fresh process would see of a program; None where it cannot be imported, so that nothing runs."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in sources.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    _unload()
    importlib.invalidate_caches()
    try:
        step: Any = importlib.import_module("steps").fit
    except Exception:  # noqa: BLE001 - an edit may break anything
        return None
    function = getattr(step, "function", step)
    if not callable(function):
        return None
    key = fingerprint(function)
    try:
        return Observed(key, _ADDRESS.sub("", repr(step(3))))
    except Exception as raised:  # noqa: BLE001 - an edit may break anything
        return Observed(key, f"{type(raised).__name__}: {raised}")


def explore(random: Random, folder: Path, edits: int) -> tuple[int, int, list[str]]:
    """Edit one program again and again; how many edits changed a result, how many only the key, and stale hits."""
    sources, before = _sound_program(random, folder)
    known = {before.key: before.result}
    changed = unneeded = 0
    stale = []
    for _ in range(edits):
        changed_sources = edited(random, sources)
        now = observed(folder, changed_sources)
        if now is None:
            continue
        changed += now.result != before.result
        unneeded += now.result == before.result and now.key != before.key
        if known.setdefault(now.key, now.result) != now.result:
            stale.append(f"{known[now.key]} was taken for {now.result}:\n{_difference(sources, changed_sources)}")
        sources, before = changed_sources, now
        if now.result.startswith(("NameError", "TypeError", "AttributeError", "KeyError")) and random.random() < 0.7:
            sources, before = _sound_program(random, folder)
            known = {before.key: before.result}
    return changed, unneeded, stale


def _sound_program(random: Random, folder: Path) -> tuple[Sources, Observed]:
    """A program whose step returns something."""
    sources = program(random)
    found = observed(folder, sources)
    assert found is not None, sources
    assert "Error" not in found.result, (found, sources)
    return sources, found


def _difference(before: Sources, after: Sources) -> str:
    return "\n".join(f"--- {name}\n{before[name]}\n+++\n{after[name]}" for name in after if before[name] != after[name])


def main() -> None:
    """Make many edits, and exit with 1 where one was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    random, begun = Random(asked.seed), time.monotonic()
    changed = unneeded = done = 0
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as place, loaded_from(folder := Path(place) / "project"):
        while done < asked.edits:
            found = explore(random, folder, 25)
            changed, unneeded, missed, done = changed + found[0], unneeded + found[1], missed + found[2], done + 25
    seconds = time.monotonic() - begun
    print(f"{done} edits in {seconds:.0f} s: {changed} changed a result, {unneeded} only the key, {len(missed)} missed")
    print("\n\n".join(missed[:5]))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
