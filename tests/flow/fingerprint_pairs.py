"""Pairs of steps that differ in one thing."""

BASE = "def fit(frame):\n    return frame + 1\n"

PAIRS = {
    "its own code": (BASE, BASE.replace("1", "2")),
    "name of a keyword argument": (
        "def fit(x): return x.sort('t', nulls_last=True)",
        "def fit(x): return x.sort('t', descending=True)",
    ),
    "order of a list of functions": (
        "def a(x): return x + 1\ndef b(x): return x * 10\nT = {'a': a, 'b': b}\nO = [a, b]\ndef fit(x): return T, O",
        "def a(x): return x + 1\ndef b(x): return x * 10\nT = {'a': a, 'b': b}\nO = [b, a]\ndef fit(x): return T, O",
    ),
    "functions of a table": (
        "def a(x): return x + 1\ndef b(x): return x * 10\nT = {'a': a, 'b': b}\ndef fit(x): return T['a'](x)",
        "def a(x): return x + 1\ndef b(x): return x * 10\nT = {'a': b, 'b': a}\ndef fit(x): return T['a'](x)",
    ),
    "method of a named tuple": (
        (
            "from typing import NamedTuple\nclass P(NamedTuple):\n  n: int\n  def go(self): return self.n\n"
            "V = P(1)\ndef fit(x): return V.go()"
        ),
        (
            "from typing import NamedTuple\nclass P(NamedTuple):\n  n: int\n  def go(self): return -self.n\n"
            "V = P(1)\ndef fit(x): return V.go()"
        ),
    ),
    "method of a text enumeration that is a default": (
        (
            "from enum import Enum\nclass E(str, Enum):\n  A = 'a'\n  def go(self): return 1\n"
            "def w(e=E.A): return e.go()\ndef fit(x): return w()"
        ),
        (
            "from enum import Enum\nclass E(str, Enum):\n  A = 'a'\n  def go(self): return 2\n"
            "def w(e=E.A): return e.go()\ndef fit(x): return w()"
        ),
    ),
    "annotation that says how an input is read": ("def fit(x: int): return x", "def fit(x: float): return x"),
    "registered subclass": (
        "class B: pass\nclass A(B):\n  def go(self): return 1\ndef fit(x): return B.__subclasses__()[0]().go()",
        "class B: pass\nclass A(B):\n  def go(self): return 2\ndef fit(x): return B.__subclasses__()[0]().go()",
    ),
    "function that is looked up": (
        "def ab(x): return 1\ndef fit(x): return globals()['a' + 'b'](x)",
        "def ab(x): return 2\ndef fit(x): return globals()['a' + 'b'](x)",
    ),
    "docstring that is read": (
        "def a():\n  'One.'\ndef fit(x): return a.__doc__",
        "def a():\n  'Two.'\ndef fit(x): return a.__doc__",
    ),
    "operator": (BASE, BASE.replace("+", "-")),
    "default": ("def fit(x, by=1): return x + by", "def fit(x, by=2): return x + by"),
    "keyword default": ("def fit(x, *, by=1): return x + by", "def fit(x, *, by=2): return x + by"),
    "default that is a function": (
        "def a(x): return x\ndef fit(x, by=a): return by(x)",
        "def a(x): return -x\ndef fit(x, by=a): return by(x)",
    ),
    "helper": ("def a(x): return x\ndef fit(x): return a(x)", "def a(x): return -x\ndef fit(x): return a(x)"),
    "helper of a helper": (
        "def b(x): return x\ndef a(x): return b(x)\ndef fit(x): return a(x)",
        "def b(x): return -x\ndef a(x): return b(x)\ndef fit(x): return a(x)",
    ),
    "cached helper": (
        "import functools\n@functools.cache\ndef a(x): return x\ndef fit(x): return a(x)",
        "import functools\n@functools.cache\ndef a(x): return -x\ndef fit(x): return a(x)",
    ),
    "decorated helper": (
        "def d(f):\n  def w(x): return f(x)\n  return w\n@d\ndef a(x): return x\ndef fit(x): return a(x)",
        "def d(f):\n  def w(x): return f(x)\n  return w\n@d\ndef a(x): return -x\ndef fit(x): return a(x)",
    ),
    "partial": (
        "import functools\ndef a(x, y): return x\ng = functools.partial(a, y=1)\ndef fit(x): return g(x)",
        "import functools\ndef a(x, y): return x\ng = functools.partial(a, y=2)\ndef fit(x): return g(x)",
    ),
    "table of helpers": (
        "def a(x): return x\nT = {'a': a}\ndef fit(x): return T['a'](x)",
        "def a(x): return -x\nT = {'a': a}\ndef fit(x): return T['a'](x)",
    ),
    "global": ("LIMIT = 1\ndef fit(x): return x > LIMIT", "LIMIT = 2\ndef fit(x): return x > LIMIT"),
    "type of a global": ("LIMIT = 1\ndef fit(x): return x > LIMIT", "LIMIT = 1.0\ndef fit(x): return x > LIMIT"),
    "global table": (
        "T = {'a': [1, {2, 3}]}\ndef fit(x): return T[x]",
        "T = {'a': [1, {2, 4}]}\ndef fit(x): return T[x]",
    ),
    "global of a comprehension": (
        "LIMIT = 1\ndef fit(x): return [y for y in x if y > LIMIT]",
        "LIMIT = 2\ndef fit(x): return [y for y in x if y > LIMIT]",
    ),
    "first constant of a comprehension": (
        "def fit(x): return ['a' + y for y in x]",
        "def fit(x): return ['b' + y for y in x]",
    ),
    "first constant of a generator": (
        "def fit(x): return sum('a' in y for y in x)",
        "def fit(x): return sum('b' in y for y in x)",
    ),
    "first constant of a lambda": (
        "def fit(x): return map(lambda y: 'a', x)",
        "def fit(x): return map(lambda y: 'b', x)",
    ),
    "constant that is a set": ("def fit(x): return x in {1, 2}", "def fit(x): return x in {1, 3}"),
    "complex constant": ("def fit(x): return x * 1j", "def fit(x): return x * 2j"),
    "nested function": (
        "def fit(x):\n  def a(y): return y\n  return a(x)",
        "def fit(x):\n  def a(y): return -y\n  return a(x)",
    ),
    "closure": (
        "def make(by):\n  def fit(x): return x + by\n  return fit\nfit = make(1)",
        "def make(by):\n  def fit(x): return x + by\n  return fit\nfit = make(2)",
    ),
    "function in a closure": (
        "def make(f):\n  def fit(x): return f(x)\n  return fit\nfit = make(lambda x: x)",
        "def make(f):\n  def fit(x): return f(x)\n  return fit\nfit = make(lambda x: -x)",
    ),
    "what a try covers": (
        "def fit(x):\n  try:\n    a = x()\n    b = x()\n  except ValueError: b = 1\n  return b",
        "def fit(x):\n  a = x()\n  try:\n    b = x()\n  except ValueError: b = 1\n  return b",
    ),
    "method": (
        "class A:\n  def go(self, x): return x\ndef fit(x): return A().go(x)",
        "class A:\n  def go(self, x): return -x\ndef fit(x): return A().go(x)",
    ),
    "method of a base": (
        "class B:\n  def go(self, x): return x\nclass A(B): pass\ndef fit(x): return A().go(x)",
        "class B:\n  def go(self, x): return -x\nclass A(B): pass\ndef fit(x): return A().go(x)",
    ),
    "property": (
        "class A:\n  @property\n  def go(self): return 1\ndef fit(x): return A().go",
        "class A:\n  @property\n  def go(self): return 2\ndef fit(x): return A().go",
    ),
    "static method": (
        "class A:\n  @staticmethod\n  def go(): return 1\ndef fit(x): return A.go()",
        "class A:\n  @staticmethod\n  def go(): return 2\ndef fit(x): return A.go()",
    ),
    "class attribute": ("class A:\n  n = 1\ndef fit(x): return A.n", "class A:\n  n = 2\ndef fit(x): return A.n"),
    "default of a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n  n: int = 1\ndef fit(x): return A().n",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n  n: int = 2\ndef fit(x): return A().n",
    ),
    "default of a struct": (
        "from msgspec import Struct\nclass A(Struct):\n  n: int = 1\ndef fit(x): return A().n",
        "from msgspec import Struct\nclass A(Struct):\n  n: int = 2\ndef fit(x): return A().n",
    ),
    "type of a field": (
        "from msgspec import Struct\nclass A(Struct):\n  n: list[int]\ndef fit(x): return A(x)",
        "from msgspec import Struct\nclass A(Struct):\n  n: list[str]\ndef fit(x): return A(x)",
    ),
    "state of an object": (
        "class A:\n  def __init__(self, n): self.n = n\nA1 = A(1)\ndef fit(x): return A1.n",
        "class A:\n  def __init__(self, n): self.n = n\nA1 = A(2)\ndef fit(x): return A1.n",
    ),
    "bound method": (
        "class A:\n  def __init__(self, n): self.n = n\n  def go(self): pass\ngo = A(1).go\ndef fit(x): return go()",
        "class A:\n  def __init__(self, n): self.n = n\n  def go(self): pass\ngo = A(2).go\ndef fit(x): return go()",
    ),
    "member of an enumeration": (
        "from enum import Enum\nclass E(Enum):\n  A = 1\ndef fit(x): return E.A.value",
        "from enum import Enum\nclass E(Enum):\n  A = 2\ndef fit(x): return E.A.value",
    ),
    "array": (
        "import numpy\nW = numpy.arange(2000.)\ndef fit(x): return x @ W",
        "import numpy\nW = numpy.arange(2000.)\nW[1000] = 7\ndef fit(x): return x @ W",
    ),
    "frame": (
        "import polars\nF = polars.DataFrame({'a': range(2000)})\ndef fit(x): return x.join(F)",
        "import polars\nF = polars.DataFrame({'a': range(1, 2001)})\ndef fit(x): return x.join(F)",
    ),
    "expression": (
        "import polars\nE = polars.col('a') * 2\ndef fit(x): return x.select(E)",
        "import polars\nE = polars.col('a') * 3\ndef fit(x): return x.select(E)",
    ),
    "pattern": (
        "import re\nP = re.compile('a')\ndef fit(x): return P.match(x)",
        "import re\nP = re.compile('b')\ndef fit(x): return P.match(x)",
    ),
    "relative path": (
        "from pathlib import Path\nP = Path('a')\ndef fit(x): return P",
        "from pathlib import Path\nP = Path('b')\ndef fit(x): return P",
    ),
    "function of another package": (
        "from math import exp as f\ndef fit(x): return f(x)",
        "from math import sin as f\ndef fit(x): return f(x)",
    ),
    "estimator": (
        "from sklearn.linear_model import Ridge\nM = Ridge(1.0)\ndef fit(x): return M.fit(x)",
        "from sklearn.linear_model import Ridge\nM = Ridge(2.0)\ndef fit(x): return M.fit(x)",
    ),
}
