"""Finds code that reads something besides its inputs: files, the clock, random numbers, variables, the network."""

import ast
import re
from collections.abc import Iterable
from typing import NamedTuple


class Effect(NamedTuple):
    """A read in the code: what it reads, the code, and its line."""

    kind: str
    code: str
    line: int

    @property
    def does(self) -> str:
        """The effect as the predicate of a sentence."""
        return _KINDS[self.kind].does

    @property
    def cure(self) -> str:
        """The action for a step."""
        return _KINDS[self.kind].cure

    @property
    def cure_of_transformation(self) -> str:
        """The action for a transformation, whose only inputs are columns."""
        return _KINDS[self.kind].cure_of_transformation


class _Kind(NamedTuple):
    does: str
    cure: str
    cure_of_transformation: str
    functions: re.Pattern[str]
    methods: frozenset[str] = frozenset()


# `functions` match full names of functions and attributes; `methods` are names of methods of any object.
_KINDS = {
    "file": _Kind(
        "reads a file",
        "declare the file as a source in tidemill.toml, or pass its content as a parameter",
        "write the values into features.py, or declare the file as a source and define a feature view of it",
        re.compile(
            r"open|io\.open|os\.(open|listdir|scandir|walk)|glob\.i?glob|codecs\.open|gzip\.open|linecache\.\w+|"
            r"(polars|pandas)\.(read|scan)_\w+|numpy\.(load|loadtxt|genfromtxt|fromfile|memmap)|joblib\.load|"
            r"pyarrow\.(parquet|csv|feather|json)\.read_\w+|deltalake\.DeltaTable"
        ),
        frozenset({"read_text", "read_bytes", "iterdir"}),
    ),
    "clock": _Kind(
        "reads the clock",
        "use a parameter of the pipeline of the type datetime, such as `until`, or a parameter of the type Clock",
        "use the event time of the row: name its column as a parameter",
        re.compile(
            r"datetime\.datetime\.(now|utcnow|today)|datetime\.date\.today|pandas\.Timestamp\.(now|today|utcnow)|"
            r"time\.(time|time_ns|monotonic|monotonic_ns|perf_counter|localtime|gmtime|strftime|ctime)"
        ),
    ),
    "random": _Kind(
        "uses random numbers without a seed",
        "set a seed, such as numpy.random.default_rng(0)",
        "remove the random numbers",
        re.compile(
            r"random\.(?!Random$|seed$|getstate$|setstate$)\w+|numpy\.random\.(?!default_rng$|Generator$|RandomState$|"
            r"SeedSequence$|PCG64$|seed$)\w+|uuid\.uuid[14]|secrets\.\w+|os\.urandom"
        ),
    ),
    "environment": _Kind(
        "reads an environment variable",
        "make it a parameter of the pipeline",
        "write the value into features.py",
        re.compile(r"os\.(getenv|getenvb|getcwd)|platform\.\w+|socket\.gethostname|getpass\.getuser"),
    ),
    "network": _Kind(
        "reads from the network, a database or another program",
        "declare it as a source in tidemill.toml",
        "declare it as a source in tidemill.toml, and define a feature view of it",
        re.compile(
            r"requests\.(get|post|put|request|Session)|httpx\.(get|post|request|stream|Client)|"
            r"urllib\.request\.\w+|socket\.(socket|create_connection)|(sqlite3|psycopg|psycopg2|duckdb)\.connect|"
            r"duckdb\.(sql|query|read_\w+)|sqlalchemy\.create_engine|boto3\.\w+|"
            r"subprocess\.(run|Popen|check_output|call|check_call|getoutput)|os\.(system|popen)"
        ),
    ),
}
# Generators that are random only without an argument.
_SEEDED = re.compile(r"numpy\.random\.(default_rng|RandomState)|random\.Random|random\.seed|numpy\.random\.seed")
_SAMPLES = frozenset({"sample", "shuffle"})
_SEEDS = frozenset({"seed", "random_state"})


def find_effects(module: ast.AST, code: Iterable[ast.AST]) -> list[Effect]:
    """Return the effects in some nodes of a module, in the order of their lines; each code once.

    Only what the source shows is found: names are followed through imports, not through variables.
    """
    names = _list_imported_names(module)
    found: dict[tuple[str, str], Effect] = {}
    for root in code:
        for node in ast.walk(root):
            kind = _classify(node, names)
            if kind:
                text = ast.unparse(node)
                effect = Effect(kind, text if len(text) <= 60 else text[:59] + "…", getattr(node, "lineno", 0))
                found.setdefault((kind, effect.code), effect)
    return sorted(found.values(), key=lambda effect: effect.line)


def _classify(node: ast.AST, names: dict[str, str]) -> str:
    """Return the kind of the effect of a node; empty if it has none."""
    if isinstance(node, ast.Attribute | ast.Name):  # os.environ["HOME"] is not a call
        return "environment" if _full_name(node, names) in ("os.environ", "os.environb") else ""
    if not isinstance(node, ast.Call):
        return ""
    name = _full_name(node.func, names)
    if _SEEDED.fullmatch(name):
        return "" if node.args or node.keywords else "random"
    for kind, rule in _KINDS.items():
        if name and rule.functions.fullmatch(name) and not (name.startswith("time.") and node.args):
            return kind
        if isinstance(node.func, ast.Attribute) and node.func.attr in rule.methods:
            return kind
    if isinstance(node.func, ast.Attribute) and node.func.attr == "open" and "Path" in ast.unparse(node.func.value):
        return "file"
    has_seed = any(keyword.arg in _SEEDS for keyword in node.keywords)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _SAMPLES and not has_seed:
        return "" if name else "random"  # a function of a module is no method of a frame
    return ""


def _full_name(node: ast.AST, names: dict[str, str]) -> str:
    """Return the name of a function with its module, such as numpy.random.rand; empty for another expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    if node.id not in names and (parts or node.id != "open"):
        return ""
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _list_imported_names(module: ast.AST) -> dict[str, str]:
    """Return the full names of what a module imports, by their names in the module."""
    names: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names
