"""A step that runs again because its code changed names the modules in which it changed."""

import importlib
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from tidemill.flow.code.changes import find_changed_modules

FILES = {
    "steps.py": "from lib.clean import tidy\nSIZE = 1\ndef fit(x): return tidy(x)\ndef other(x): return SIZE\n",
    "lib/__init__.py": "",
    "lib/clean.py": "def tidy(x):\n    from .rules import LIMIT\n    return x * LIMIT\n",
    "lib/rules.py": "LIMIT = 2\nUNUSED = 3\n",
}


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("lib/rules.py", "LIMIT = 50\nUNUSED = 3\n", ["lib.rules"]),
        ("lib/rules.py", "LIMIT = 2  # at most\nUNUSED = 4\n", []),
        ("lib/rules.py", "LIMIT = 2\nUNUSED = 3\nprint(LIMIT)\n", ["lib.rules"]),
        ("steps.py", FILES["steps.py"].replace("SIZE = 1", "SIZE = 2"), []),
        ("steps.py", FILES["steps.py"].replace("tidy(x)", "-tidy(x)"), ["steps"]),
    ],
    ids=["constant", "comment", "statement", "another step", "step"],
)
def test_the_modules_are_those_with_code_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, changed: list[str]
) -> None:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, source in FILES.items():
            archive.writestr(name, source)
    for name, source in (FILES | {file: text}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("steps", "lib")]:
        monkeypatch.delitem(sys.modules, name)
    fit = importlib.import_module("steps").fit
    assert find_changed_modules(fit, tmp_path, packed.getvalue()) == changed
    for name in [name for name in sys.modules if name.partition(".")[0] in ("steps", "lib")]:
        del sys.modules[name]
