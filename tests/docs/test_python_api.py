"""The Python interface: what is public, what pages import, and what `import tidemill` costs."""

import ast
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import tidemill
from tests.docs.pages import PAGES, ROOT, blocks, name_of
from tests.projects import make_project

_EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
_OPEN_TO_PROJECTS = ("tidemill.errors", "tidemill.core.resources", "tidemill.recipes", "tidemill.testing")
_HEAVY = ("lightgbm", "numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn")


@pytest.mark.parametrize("name", tidemill.__all__)
def test_each_public_name_can_be_imported(name: str) -> None:
    assert getattr(tidemill, name) is not None
    assert name in dir(tidemill)


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert [name for name in tidemill.__all__ if name != "__version__" and f"\n### {name}\n" not in page] == []


def _imports(code: str) -> list[tuple[str, str]]:
    """Module and name of each import of Tidemill; the name is empty for `import module`."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            found += [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return [(module, name) for module, name in found if module.split(".")[0] == "tidemill"]


def _require_public(code: str, where: str) -> None:
    for module, name in _imports(code):
        if module == "tidemill":
            assert not name or name in tidemill.__all__, f"{where} imports {name}, which is not in tidemill.__all__"
        else:
            assert module.startswith(_OPEN_TO_PROJECTS), f"{where} imports from {module}, which is internal"
            assert name in ("", "*") or _has(module, name), f"{where}: {module} has no {name}"


def _has(module: str, name: str) -> bool:
    return hasattr(import_module(module), name) or find_spec(f"{module}.{name}") is not None


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python") or blocks(page, "py")], ids=name_of)
def test_pages_import_only_the_public_interface(page: Path) -> None:
    for block in (*blocks(page, "python"), *blocks(page, "py")):
        code = block.text
        if ">>>" in code:
            lines = [line[4:] for line in code.splitlines() if line.startswith((">>> ", "... "))]
            code = "\n".join(line for line in lines if line.startswith(("from ", "import ")))
        elif page.name == "python.md":
            continue  # signatures, not code
        _require_public(code, f"{name_of(page)}, line {block.line}")


@pytest.mark.parametrize("file", [file for file in _EXAMPLES if "tidemill" in file.read_text("utf-8")], ids=name_of)
def test_examples_import_only_the_public_interface(file: Path) -> None:
    _require_public(file.read_text(encoding="utf-8"), name_of(file))


def test_a_new_project_imports_only_the_public_interface(tmp_path: Path) -> None:
    make_project(tmp_path / "shop")
    files = sorted((tmp_path / "shop").rglob("*.py"))
    assert len(files) >= 3
    for file in files:
        _require_public(file.read_text(encoding="utf-8"), file.name)


def test_importing_loads_no_machine_learning_library() -> None:
    """How long an import takes, `python -m benchmarks.orchestrator` measures."""
    code = f"import sys, tidemill; print(*[name for name in {_HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
