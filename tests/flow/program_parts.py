"""What programs are made of: each part defines something in a module, and is used by an expression of a step."""

# ruff: noqa: E501 - code in a line each

from typing import NamedTuple


class Part(NamedTuple):
    """Code with `{n}` for a number of its own, `{k}` and `{m}` for constants; `use` is an expression with `provides`."""

    provides: str
    use: str
    code: str


PARTS = (
    Part("K{n}", "K{n} + x", "K{n} = {k}"),
    Part("f{n}", "f{n}(x) * f{n}(x, by=2)", "def f{n}(x, by={k}, *, plus={m}):\n    return x * by + plus"),
    Part("f{n}", "f{n}(alpha={k}, beta=x)", "def f{n}(**named):\n    return sorted(named.items())"),
    Part(
        "f{n}",
        "f{n}(x)",
        """
        def p{n}(x): return x + {k}
        def q{n}(x): return x * {m}
        TABLE{n} = {{"p": p{n}, "q": q{n}}}
        def f{n}(x):
            for one in TABLE{n}.values():
                x = one(x)
            return x, TABLE{n}["p"](x)
        """,
    ),
    Part(
        "ORDER{n}",
        "[one(x) for one in ORDER{n}]",
        """
        def p{n}(x): return x + {k}
        def q{n}(x): return x * {m}
        ORDER{n} = [p{n}, q{n}, lambda x: x - {k}]
        """,
    ),
    Part(
        "A{n}",
        "A{n}({k}).go(x) + A{n}.size + A{n}.made().limit",
        """
        class B{n}:
            size = {m}
            def base(self, x): return x + self.size
        class A{n}(B{n}):
            def __init__(self, by): self.by = by
            @property
            def limit(self): return self.by * {k}
            @classmethod
            def made(cls): return cls({m})
            @staticmethod
            def shifted(x): return x + {k}
            def go(self, x): return self.base(self.shifted(x)) + self.limit
        """,
    ),
    Part(
        "BASE{n}",
        "BASE{n}.gross() + BASE{n}.net",
        """
        from typing import NamedTuple
        class Price{n}(NamedTuple):
            net: float
            rate: float = {k}.5
            def gross(self): return self.net * self.rate
        BASE{n} = Price{n}({m}.0)
        """,
    ),
    Part(
        "kind{n}",
        "kind{n}(x)",
        """
        from enum import Enum
        class Kind{n}(str, Enum):
            SLOW = "slow"
            FAST = "fast"
            def weight(self): return {k} if self is Kind{n}.SLOW else {m}
        def kind{n}(x, of=Kind{n}.SLOW): return of.weight() * x, of.value, [one.name for one in Kind{n}]
        """,
    ),
    Part(
        "D{n}",
        "D{n}(x).total(), D{n}(x, items=[5]).total()",
        """
        from dataclasses import dataclass, field
        @dataclass(frozen=True)
        class D{n}:
            x: int
            by: int = {k}
            items: list[int] = field(default_factory=lambda: [{m}, 2])
            def total(self): return self.x * self.by + sum(self.items)
        """,
    ),
    Part(
        "f{n}",
        "f{n}(x)",
        "def make{n}(by):\n    def inner(x, plus={m}):\n        return x * by + plus\n    return inner\nf{n} = make{n}({k})",
    ),
    Part(
        "f{n}",
        "f{n}(x)",
        """
        import functools
        def times{n}(by):
            def around(f):
                @functools.wraps(f)
                def inner(*args): return f(*args) * by
                return inner
            return around
        @times{n}({k})
        def f{n}(x): return x + {m}
        """,
    ),
    Part(
        "f{n}",
        "f{n}(x)",
        """
        import functools
        @functools.lru_cache(maxsize={m})
        def g{n}(x, by, plus): return x * by - plus
        f{n} = functools.partial(g{n}, by={k}, plus={m})
        """,
    ),
    Part(
        "f{n}",
        "f{n}(x), f{n}('t'), f{n}(1.5)",
        """
        from functools import singledispatch
        @singledispatch
        def f{n}(x): return "other", {k}
        @f{n}.register
        def _(x: int): return x + {k}
        @f{n}.register(str)
        def _(x): return x * {k}
        """,
    ),
    Part(
        "REG{n}",
        "[(name, one(x)) for name, one in REG{n}.items()]",
        """
        REG{n} = {{}}
        def register{n}(f):
            REG{n}[f.__name__] = f
            return f
        @register{n}
        def first{n}(x): return x + {k}
        @register{n}
        def second{n}(x): return x * {m}
        """,
    ),
    Part(
        "Base{n}",
        "[kind().go(x) for kind in Base{n}.__subclasses__()]",
        """
        class Base{n}:
            def go(self, x): return x
        class One{n}(Base{n}):
            def go(self, x): return x + {k}
        class Two{n}(Base{n}):
            def go(self, x): return x * {m}
        """,
    ),
    Part(
        "Plug{n}",
        "[one(x) for one in Plug{n}.known]",
        """
        class Plug{n}:
            known = []
            def __init_subclass__(cls, by={k}):
                cls.known.append(lambda x: cls.go(x) * by)
        class P{n}(Plug{n}):
            def go(x): return x + {m}
        class Q{n}(Plug{n}, by={m}):
            def go(x): return x - {k}
        """,
    ),
    Part(
        "LIMIT{n}",
        "LIMIT{n} * x",
        """
        LIMIT{n} = {k}
        LIMIT{n} += {m}
        if LIMIT{n} > {m}:
            LIMIT{n} = LIMIT{n} * 2
        for one{n} in [1, {k}]:
            LIMIT{n} = LIMIT{n} + one{n}
        """,
    ),
    Part(
        "f{n}",
        "f{n}(x)",
        """
        LIST{n} = [3]
        LIST{n}.append({k})
        LIST{n}.extend([{m}, {k}])
        def f{n}(x): return [one * x for one in LIST{n} if one > {k}]
        """,
    ),
    Part(
        "f{n}",
        "f{n}(x)",
        "def g{n}(x): return x + {k}\ndef h{n}(x): return x * {m}\ndef f{n}(x): return globals()['g' + '{n}'](x)",
    ),
    Part(
        "f{n}",
        "f{n}(x)",
        "def g{n}(x): return x + {k}\ndef h{n}(x): return x * {m}\ndef f{n}(x): return eval('g' + '{n}(x)')",
    ),
    Part("f{n}", "f{n}.__doc__, f{n}(x)", "def f{n}(x):\n    'Adds {k}.'\n    return x + {k}"),
    Part(
        "Meta{n}",
        "len(Meta{n}), Meta{n}.size",
        """
        class M{n}(type):
            def __len__(cls): return {k}
            def __new__(mcls, name, bases, space): return super().__new__(mcls, name, bases, {{**space, "size": {m}}})
        class Meta{n}(metaclass=M{n}):
            pass
        """,
    ),
    Part(
        "f{n}",
        "f{n}(x)",
        """
        from contextlib import contextmanager
        @contextmanager
        def opened{n}(by):
            yield by + {k}
        def values{n}(x):
            yield x
            yield from (y * {k} for y in range({m}) if y % 2)
        def f{n}(x):
            try:
                with opened{n}({m}) as by:
                    total = sum(values{n}(x)) + by
                    return total // (x - {k})
            except ZeroDivisionError:
                return -{m}
            finally:
                x += 1
        """,
    ),
    Part(
        "f{n}",
        "f{n}(x), f{n}([x, 2]), f{n}({{'a': x}})",
        """
        def f{n}(x):
            match x:
                case [first, *rest]: return first, rest, {k}
                case {{"a": inner}}: return inner + {m}
                case int() if (twice := x * 2) > {k}: return f"{{twice:0{k}d}} {{x!r}}"
            return b"abc", {{1, {k}}}, "abcdef"[{k}:], -{m}
        """,
    ),
    Part(
        "V{n}",
        "V{n}(x), V{n}[{k}], V{n} + 1, V{n}.late, V{n}.late",
        """
        from functools import cached_property
        class W{n}:
            __slots__ = ("n", "__dict__")
            def __init__(self, n): self.n = n
            def __call__(self, x): return x + self.n
            def __getitem__(self, at): return at * {m}
            def __add__(self, other): return self.n + other + {k}
            @cached_property
            def late(self): return self.n * {k}
        V{n} = W{n}({m})
        """,
    ),
    Part(
        "f{n}",
        "f{n}(x), f{n}(x)",
        """
        import operator
        from functools import reduce
        ADD{n} = operator.add
        def f{n}(x, seen=[{k}]):
            count = {m}
            def inner():
                nonlocal count
                count += x
                return count
            return reduce(ADD{n}, [*seen, inner(), inner()])
        """,
    ),
    Part(
        "Model{n}",
        "Model{n}(n=x).value(), Model{n}().n",
        """
        from msgspec import Struct
        class Model{n}(Struct, frozen=True):
            n: int = {k}
            by: int = {m}
            def value(self): return self.n * self.by
        """,
    ),
    Part(
        "f{n}",
        "f{n}(x)",
        "g{n} = lambda x, by={k}: x * by\nTABLE{n} = {{True: g{n}, False: abs}}\ndef f{n}(x): return TABLE{n}[x > {k}](x - {m})",
    ),
    Part(
        "f{n}",
        "f{n}(x)",
        """
        class Shift{n}:
            def __init__(self, by): self.by = by
            def __get__(self, owner, kind): return lambda x: x + self.by
        class Owner{n}:
            go = Shift{n}({k})
        setattr(Owner{n}, "more", lambda self, x: x * {m})
        def f{n}(x): return Owner{n}().go(x) + Owner{n}().more(x)
        """,
    ),
)

# Modules that use each other, by module what stands in it, and the body of the function `chained` that uses them.
CHAINS = (
    (
        {"lib.a": "def tidy(x):\n    from .b import LIMIT\n    return x * LIMIT", "lib.b": "LIMIT = 2"},
        "from lib.a import tidy; return tidy(x)",
    ),
    (
        {"lib.a": "def tidy(x):\n    from . import b\n    return x * b.LIMIT", "lib.b": "LIMIT = 2"},
        "import lib.a; return lib.a.tidy(x)",
    ),
    (
        {
            "lib.deep.c": "def tidy(x):\n    from ..b import grown as g\n    return g(x, by=3)",
            "lib.b": "def grown(x, by): return x * by + START\nSTART = 4",
        },
        "from lib.deep.c import tidy as t; return t(x)",
    ),
    (
        {
            "lib": "from .a import tidy as cleaned",
            "lib.a": "from .b import *\ndef tidy(x): return x - OFFSET",
            "lib.b": "OFFSET = 6",
        },
        "from lib import cleaned; return cleaned(x)",
    ),
    (
        {
            "lib.a": "NAME = 'b'\ndef tidy(x):\n    import importlib\n    return importlib.import_module('lib.' + NAME).go(x)",
            "lib.b": "def go(x): return x + 8",
        },
        "from lib.a import tidy; return tidy(x)",
    ),
    (
        {
            "lib.a": "def tidy(x):\n    import importlib\n    return importlib.import_module('.b', __package__).go(x)",
            "lib.b": "def go(x): return x + 8",
        },
        "from lib.a import tidy; return tidy(x)",
    ),
    (
        {
            "lib.a": "LIMIT = 1\ndef tidy(x): return x * LIMIT",
            "lib": "from . import a\na.LIMIT = 5",
            "lib.b": "from lib import a\na.tidy = (lambda f: lambda x: f(x) + 9)(a.tidy)",
        },
        "import lib.b; return lib.b.a.tidy(x)",
    ),
    (
        {
            "lib": "def __getattr__(name):\n    from .b import LIMIT\n    if name == 'shown': return LIMIT\n    raise AttributeError(name)",
            "lib.b": "LIMIT = 2",
        },
        "import lib; return lib.shown",
    ),
    (
        {
            "lib.a": "from . import b\ndef tidy(x): return [getattr(b, name)(x) for name in dir(b) if name.startswith('go')]",
            "lib.b": "def go_one(x): return x + 1\ndef go_two(x): return x * 5",
        },
        "from lib.a import tidy; return tidy(x)",
    ),
    (
        {
            "lib.a": "from .b import STEPS\ndef tidy(x):\n    for step in STEPS:\n        x = step(x)\n    return x",
            "lib.b": "from .deep import c\nSTEPS = [c.up, c.down]",
            "lib.deep.c": "def up(x): return x + 3\ndef down(x): return x * 2",
        },
        "from lib.a import tidy; return tidy(x)",
    ),
    (
        {
            "extra": "import lib.a\n\ndef tidy(x): return lib.a.inner(x, mode='fast')",
            "lib.a": "def inner(x, mode):\n    return {'fast': quick, 'slow': slow}[mode](x)\ndef quick(x): return x + 1\ndef slow(x): return x + 2",
        },
        "import extra; return extra.tidy(x)",
    ),
)
