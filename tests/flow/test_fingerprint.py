"""The digest of a step's code: it changes with what the step does, and with nothing else."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.fingerprint_pairs import BASE, PAIRS
from tidemill.flow.fingerprint import fingerprint

_FINGERPRINT = """
import importlib, json, sys
sys.path[:0] = sys.argv[1:]
from tidemill.flow.fingerprint import fingerprint
module = importlib.import_module("steps")
found = {name: fingerprint(value) for name, value in vars(module).items() if name.startswith("fit")}
training = importlib.import_module("tidemill.recipes.training")
from tidemill.core.pipeline import Step
steps = {name: step for name, step in vars(training).items() if isinstance(step, Step)}
print(json.dumps(found | {name: fingerprint(step.function) for name, step in steps.items()}))
"""
_numbers = itertools.count()


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Digest"]:
    """Writes modules into a folder of their own and gives the fingerprint of `fit` in the first."""
    yield Digest(tmp_path, monkeypatch)
    for name in ("steps", "helpers"):
        sys.modules.pop(name, None)


class Digest:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch

    def __call__(self, source: str, **others: str) -> str:
        folder = self._folder / str(next(_numbers))
        folder.mkdir()
        for name, text in {"steps": source, **others}.items():
            (folder / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        with self._monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            module = __import__("steps")
            return fingerprint(module.fit)


SAME = {
    "comment": "# why\ndef fit(frame):  # because\n    return frame + 1\n",
    "docstring": 'def fit(frame):\n    """Fits."""\n    return frame + 1\n',
    "line numbers": "\n\n\n\ndef fit(frame):\n\n\n    return frame + 1\n",
    "something else in the file": "OTHER = 3\ndef other(): return OTHER\n" + BASE,
    "decorated as a step": "from tidemill import step\n@step(retries=3)\n" + BASE,
}


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_it_does_not_change_with_what_prints_nothing_to_the_machine(digest: Digest, source: str) -> None:
    assert digest(source) == digest(BASE)


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_it_changes_with_what_the_step_does(digest: Digest, one: str, other: str) -> None:
    assert digest(one) != digest(other)
    assert digest(one) == digest(one)


# Each with `?` in place of something that counts.
REACHED = {
    "the rest of a singledispatch": """
from functools import singledispatch
@singledispatch
def a(x): return ?
@a.register
def _(x: int): return 5
def fit(x): return a(x)
""",
    "one type of a singledispatch": """
from functools import singledispatch
@singledispatch
def a(x): return 5
@a.register
def _(x: int): return ?
def fit(x): return a(x)
""",
    "one type of a singledispatchmethod": """
from functools import singledispatchmethod
class A:
    @singledispatchmethod
    def a(self, x): return 5
    @a.register
    def _(self, x: int): return ?
def fit(x): return A().a(x)
""",
    "partial method": """
from functools import partialmethod
class A:
    def a(self, x, y): return x
    b = partialmethod(a, ?)
def fit(x): return A().b(x)
""",
    "namespace": "from types import SimpleNamespace\nN = SimpleNamespace(k=?)\ndef fit(x): return x + N.k",
    "read-only table": "from types import MappingProxyType\nN = MappingProxyType({1: ?})\ndef fit(x): return N[x]",
    "factory": "from collections import defaultdict\nN = defaultdict(lambda: ?)\ndef fit(x): return N[x]",
    "queue": "from collections import deque\nN = deque([1, ?])\ndef fit(x): return x in N",
    "range": "N = range(?)\ndef fit(x): return x in N",
    "slice": "N = slice(0, ?)\ndef fit(x): return x[N]",
    "fraction": "from fractions import Fraction\nN = Fraction(1, ? + 2)\ndef fit(x): return x * N",
    "slots": """
class A:
    __slots__ = ("k",)
    def __init__(self, k): self.k = k
N = A(?)
def fit(x): return x + N.k
""",
    "slots below": """
class A:
    __slots__ = ("k",)
    def __init__(self, k): self.k = k
class B(A): pass
N = B(?)
def fit(x): return x + N.k
""",
    "metaclass": """
class M(type):
    def __len__(cls): return ?
class A(metaclass=M): pass
def fit(x): return len(A)
""",
    "vectorized function": "import numpy as np\nN = np.vectorize(lambda x: x + ?)\ndef fit(x): return N(x)",
    "parameter beside a function in a pipeline": """
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
def a(x): return x
N = make_pipeline(FunctionTransformer(a), Ridge(alpha=?))
def fit(x): return N.fit(x)
""",
    "function in a pipeline": """
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
def a(x): return x + ?
N = make_pipeline(FunctionTransformer(a), Ridge())
def fit(x): return N.fit(x)
""",
}


@pytest.mark.parametrize("source", REACHED.values(), ids=REACHED)
def test_it_changes_with_what_a_value_holds(digest: Digest, source: str) -> None:
    one = digest(source.replace("?", "1"))
    assert digest(source.replace("?", "2")) != one
    assert digest(source.replace("?", "1")) == one


def test_it_does_not_change_as_a_generator_of_numbers_or_a_lock_is_used(digest: Digest) -> None:
    source = (
        "import random, threading, numpy as np\nR, G, L = random.Random(), np.random.default_rng(), threading.Lock()\n"
        "def fit(x): return R, G, L"
    )
    assert digest(source) == digest(source)


IMPORTS = {
    "asked for by its name": "import helpers\ndef fit(x): return getattr(helpers, 'clean')(x)",
    "imported by its name": (
        "import importlib\ndef fit(x): return getattr(importlib.import_module('helpers'), 'clean')(x)"
    ),
    "from a module": "from helpers import clean\ndef fit(x): return clean(x)",
    "through a module": "import helpers\ndef fit(x): return helpers.clean(x)",
    "under another name": "import helpers as h\ndef fit(x): return h.clean(x)",
    "late, from a module": "def fit(x):\n  from helpers import clean\n  return clean(x)",
    "late, as a value": "def fit(x):\n  import helpers\n  handed = helpers.clean\n  return handed(x)",
    "late, through a module": "def fit(x):\n  import helpers\n  return helpers.clean(x)",
    "in a nested function": "def fit(x):\n  def a():\n    import helpers\n    return helpers.clean(x)\n  return a()",
}


@pytest.mark.parametrize("source", IMPORTS.values(), ids=IMPORTS)
def test_it_changes_with_a_helper_of_another_module_only(digest: Digest, source: str) -> None:
    helpers = "def clean(x): return x\ndef other(x): return x\n"
    base = digest(source, helpers=helpers)
    assert digest(source, helpers="# clean\n\n" + helpers) == base
    assert digest(source, helpers=helpers.replace("other(x): return x", "other(x): return -x")) == base
    assert digest(source, helpers=helpers.replace("clean(x): return x", "clean(x): return -x")) != base


PACKAGE = {
    "a member of a neighbour": "def tidy(x):\n    from .rules import LIMIT\n    return x * LIMIT\n",
    "a neighbour": "def tidy(x):\n    from . import rules\n    return x * rules.LIMIT\n",
    "a neighbour by its name": (
        "import importlib\ndef tidy(x):\n    return x * importlib.import_module('.rules', __package__).LIMIT\n"
    ),
    "a neighbour by a name that only the run knows": (
        "import importlib\ndef tidy(x, which='rules'):\n    return x * importlib.import_module('lib.' + which).LIMIT\n"
    ),
    "all of a neighbour": "from .rules import *\ndef tidy(x):\n    return x * LIMIT\n",
}


@pytest.mark.parametrize("source", PACKAGE.values(), ids=PACKAGE)
def test_it_changes_with_what_a_helper_imports_from_its_own_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    def found(rules: str) -> str:
        folder = tmp_path / str(next(_numbers))
        (folder / "lib").mkdir(parents=True)
        (folder / "steps.py").write_text("from lib.clean import tidy\ndef fit(x): return tidy(x)\n")
        (folder / "lib" / "__init__.py").write_text("")
        (folder / "lib" / "clean.py").write_text(source)
        (folder / "lib" / "rules.py").write_text(rules)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("steps", "lib")]:
            del sys.modules[name]
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            return fingerprint(__import__("steps").fit)

    base = found("LIMIT = 2\n")
    assert found("LIMIT = 2  # at most\n") == base
    assert found("LIMIT = 50\n") != base


def test_a_global_that_changes_in_this_process_is_seen() -> None:
    names: dict[str, object] = {"LIMIT": 1, "__name__": "notebook"}
    exec("def fit(x): return x > LIMIT", names)
    before = fingerprint(names["fit"])  # type: ignore[arg-type]
    names["LIMIT"] = 2
    assert fingerprint(names["fit"]) != before  # type: ignore[arg-type]


def test_functions_that_call_each_other_have_one(digest: Digest) -> None:
    source = (
        "def odd(n): return n and even(n)\ndef even(n): return not n or odd(n)\ndef fit(n): return fit(n) or odd(n)"
    )
    assert digest(source) == digest(source)
    assert digest(source) != digest(source.replace("not n or", "n or"))


def test_values_that_hold_themselves_have_one(digest: Digest) -> None:
    source = "class A: pass\na = A()\na.me = a\nL = []\nL.append(L)\ndef fit(x): return a, L\n"
    assert digest(source) == digest(source)


def test_a_closure_that_is_not_filled_yet_has_one(digest: Digest) -> None:
    source = "def make():\n  def fit(x): return later(x)\n  yield fit\n  def later(x): return x\nfit = next(make())"
    assert digest(source) == digest(source)


def test_it_is_the_same_in_every_process_and_folder(tmp_path: Path) -> None:
    steps = [
        one.replace("fit(", f"fit_{place}(").replace("fit\n", f"fit_{place}\n").replace("fit =", f"fit_{place} =")
        for place, (one, _) in enumerate(PAIRS.values())
    ]
    found = []
    for place, folder in enumerate([tmp_path / "here", tmp_path / "somewhere" / "else"]):
        folder.mkdir(parents=True)
        for number, text in enumerate(steps):
            (folder / f"part_{number}.py").write_text(text)
        (folder / "steps.py").write_text("\n".join(f"from part_{n} import fit_{n}" for n in range(len(steps))))
        done = subprocess.run(
            [sys.executable, "-c", _FINGERPRINT, str(folder)],
            env=os.environ | {"PYTHONHASHSEED": str(place + 1)},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(done.stdout))
    assert len(found[0]) > len(steps) + 5
    assert found[0] == found[1]
