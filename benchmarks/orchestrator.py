"""What an orchestrator costs beside its work: ours, the floor of bare files and SQLite, and the peers, in one run.

Every contender is a script in `peers/orchestrator` that is told the same jobs (`work.py` says which). The peers are
measured where `--peers` names a folder that `peers/orchestrator/install` has filled.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._processes import Ended, Missing, reason, run, succeeded
from benchmarks._report import Figure, Values, assembled, machine, table, write_between

_ROOT = Path(__file__).parents[1]
_SCRIPTS = Path(__file__).parent / "peers" / "orchestrator"
_CROWD = 8
_PATIENCE = 240.0
_FIRST = "import os, time; open(os.environ['BENCH_FIRST'], 'w').write(str(time.time_ns()))"
_HEAVY = ("lightgbm", "numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn", "sqlalchemy")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "HAMILTON_TELEMETRY_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "ZENML_ANALYTICS_OPT_IN": "false",
}
_HOMES = ("DAGSTER_HOME", "METAFLOW_HOME", "PREFECT_HOME", "ZENML_CONFIG_PATH")

FIGURES = (
    Figure("import", "ms", "≤ 100"),
    Figure("start to first step", "ms", "≤ 300"),
    Figure("a step in process", "ms", "≤ 1.5"),
    Figure("a step in warm processes", "ms", "≤ 6"),
    Figure("cached rerun", "s", "≤ 0.5"),
    Figure("cached rerun, processor time", "s"),
    Figure("run again after step 4 of 6 failed", "steps", "3"),
    Figure("8 processes at once, whole steps", "1/s"),
    Figure("8 processes at once, step transactions", "1/s", "≥ 2,000"),
    Figure("peak memory of 50 steps", "MiB"),
)


class Contender(NamedTuple):
    """Who is measured: `commands` are the jobs for which it has a command line of its own."""

    name: str
    imports: str
    commands: Mapping[str, tuple[str, ...]] = {}
    lengths: str = "5,50"
    lengths_in_processes: str = "5,50"
    quick: bool = False


OURS = Contender(
    "tidemill",
    "import tidemill",
    {"first": ("{bin}/tidemill", "run", "chain"), "train": ("{bin}/tidemill", "run", "training")},
)
FLOOR = Contender("nothing", "pass", {"first": ("{bin}/python", "-c", _FIRST)})
PEERS = (
    Contender("dbos", "import dbos", quick=True),
    Contender("hamilton", "from hamilton import driver", quick=True),
    Contender("kedro", "from kedro import io, pipeline, runner", lengths_in_processes="5,10"),
    Contender(
        "dagster",
        "import dagster",
        {"first": ("{bin}/dagster", "job", "execute", "-f", "{script}", "-j", "inline_5")},
        lengths_in_processes="5,10",
    ),
    Contender("prefect", "from prefect import flow, task"),
    Contender("zenml", "from zenml import pipeline, step"),
    Contender(
        "metaflow",
        "import metaflow",
        {
            "first": ("{bin}/python", "chain_5.py", "--no-pylint", "run"),
            "train": ("{bin}/python", "training.py", "--no-pylint", "run"),
        },
        lengths="5,20",
    ),
)


class Arena:
    """One contender with its interpreter, and a folder for each state that it keeps."""

    def __init__(self, contender: Contender, binaries: Path, folder: Path, seconds: float) -> None:
        self.contender = contender
        self.seconds = seconds
        self._folder = folder
        self._fill = {"bin": str(binaries), "script": str(_SCRIPTS / f"on_{contender.name}.py")}

    def place(self, state: str) -> Path:
        """The folder of a state, prepared when it is first asked for."""
        place = self._folder / self.contender.name / state
        if not place.exists():
            place.mkdir(parents=True)
            succeeded(self.job("prepare", state=state))
        return place

    def command(self, job: str, *words: str) -> list[str]:
        """How a job is started."""
        own = self.contender.commands.get(job, ("{bin}/python", "{script}", job))
        return [part.format(**self._fill) for part in own] + list(words)

    def python(self, code: str) -> Ended:
        """Run code in a fresh interpreter of the contender."""
        folder = self._folder / self.contender.name
        folder.mkdir(exist_ok=True)
        return succeeded(run([self._fill["bin"] + "/python", "-c", code], folder, self.environment(folder)))

    def job(self, job: str, *words: str, state: str = "chain", **also: str) -> Ended:
        """Do a job in a state's folder."""
        folder = self._folder / self.contender.name / state if job == "prepare" else self.place(state)
        return run(self.command(job, *words), folder, self.environment(folder) | also)

    def told(self, job: str, *words: str) -> Any:
        """What a job told, and how it ended."""
        ended = succeeded(self.job(job, *words))
        return _result(ended.out.splitlines()), ended

    def environment(self, folder: Path) -> dict[str, str]:
        """The machine's environment with bytecode kept, telemetry off, and all state below `folder`."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        homes = {name: str(folder / "home") for name in _HOMES}
        (folder / "home").mkdir(exist_ok=True)
        bytecode = {"PYTHONPYCACHEPREFIX": str(self._folder / "bytecode"), "PYTHONPATH": str(_ROOT)}
        return kept | _QUIET | homes | bytecode | {"USERNAME": "bench"}


def imports(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """A fresh interpreter that imports it, and ends."""
    code = arena.contender.imports
    if arena.contender is OURS:
        arena.python(f"{code}, sys; found = set({_HEAVY}) & set(sys.modules); assert not found, found")
    arena.python(code)
    return {"import": [arena.python(code).seconds * 1000 for _ in range(repeats)]}


def start(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """From the start of its command to the first line of the first step."""
    return {"start to first step": [_first_step(arena) for _ in range(repeats + 1)][1:]}


def _first_step(arena: Arena) -> float:
    note = arena.place("chain") / "first"
    note.unlink(missing_ok=True)
    began = time.time_ns()
    succeeded(arena.job("first", BENCH_FIRST=str(note)))
    return (int(note.read_text()) - began) / 1e6


def in_process(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """A no-op step with its artifact and its record: the slope between two lengths, in one warm process."""
    slopes, ended = arena.told("time", "inline", arena.contender.lengths, str(repeats))
    return {"a step in process": slopes, "peak memory of 50 steps": [ended.peak]}


def run_in_processes(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """The same through worker processes."""
    return {
        "a step in warm processes": arena.told("time", "processes", arena.contender.lengths_in_processes, str(repeats))[
            0
        ]
    }


def rerun(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """The training again, with nothing changed: the whole process."""
    trace = arena.place("training") / "trace"
    found = [_training(arena, trace) for _ in range(repeats + 1)][1:]
    if again := _ran(trace)[6:]:
        raise Missing(f"has no cache: each rerun ran {len(again) // repeats} steps, in {found[0].seconds:.1f} s")
    return {
        "cached rerun": [ended.seconds for ended in found],
        "cached rerun, processor time": [ended.cpu for ended in found],
    }


def _training(arena: Arena, trace: Path) -> Ended:
    return succeeded(arena.job("train", state="training", BENCH_TRACE=str(trace)))


def resume(arena: Arena, _: int) -> dict[str, list[float]]:
    """How many steps run once a training that failed in its fourth step goes on."""
    trace = arena.place("failing") / "trace"
    failed = arena.job("train", state="failing", BENCH_TRACE=str(trace), BENCH_FAIL="1")
    if not failed.code or _ran(trace) != ["load", "validate", "split", "train"]:
        raise Missing(f"did not fail in step 4 as it should: {reason(failed.code, failed.err)}")
    succeeded(arena.job("resume", state="failing", BENCH_TRACE=str(trace)))
    return {"run again after step 4 of 6 failed": [float(len(_ran(trace)) - 4)]}


def _ran(trace: Path) -> list[str]:
    """The steps that ran, in order."""
    return trace.read_text().split() if trace.exists() else []


def crowd(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """Eight processes that run short chains on one state at once."""
    return {"8 processes at once, whole steps": _rates(arena, "inline", repeats)}


def crowd_of_transactions(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """Eight processes that only record steps, one transaction each."""
    if arena.contender not in (OURS, FLOOR):
        return {}
    return {"8 processes at once, step transactions": _rates(arena, "transactions", repeats)}


def _rates(arena: Arena, kind: str, repeats: int) -> list[float]:
    """Steps a second, all processes together, if none was lost."""
    folder = arena.place("chain")
    command = arena.command("many", kind, "6", str(arena.seconds))
    with tempfile.TemporaryFile() as err:
        crowd = [
            subprocess.Popen(
                command,
                cwd=folder,
                env=arena.environment(folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                process_group=0,
            )
            for _ in range(_CROWD)
        ]
        alarm = threading.Timer(_PATIENCE, _kill, (crowd,))
        alarm.start()
        try:
            for process in crowd:
                _answer(process, err)
            before = arena.told("count")[0]
            rates, steps = [], 0
            for _ in range(repeats):
                for process in crowd:
                    assert process.stdin is not None
                    process.stdin.write("\n")
                    process.stdin.flush()
                began, ended, done = zip(*(_answer(process, err) for process in crowd), strict=True)
                rates.append(sum(done) / (max(ended) - min(began)))
                steps += sum(done)
            kept = arena.told("count")[0] - before
        finally:
            alarm.cancel()
            _kill(crowd)
            for process in crowd:
                process.communicate()
    if kept != steps:
        raise Missing(f"of {steps:,} steps that {_CROWD} processes ran, its records name {kept:,}")
    return rates


def _kill(crowd: list["subprocess.Popen[str]"]) -> None:
    for process in crowd:
        with suppress(ProcessLookupError):  # with the servers that it may have started
            os.killpg(process.pid, signal.SIGKILL)


def _answer(process: "subprocess.Popen[str]", err: Any) -> Any:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("result "):
            return _result([line])
    code = process.wait()
    if code == -signal.SIGKILL:
        raise Missing(f"failed: {_CROWD} processes at once did not end within {_PATIENCE:.0f} s")
    err.seek(0)
    raise Missing(reason(code, err.read().decode(errors="replace")))


def _result(lines: list[str]) -> Any:
    told = [line.removeprefix("result ") for line in lines if line.startswith("result ")]
    if not told:
        raise Missing("failed: it told no result")
    return json.loads(told[-1])


MEASURES: dict[Callable[[Arena, int], dict[str, list[float]]], tuple[str, ...]] = {
    imports: ("import",),
    start: ("start to first step",),
    in_process: ("a step in process", "peak memory of 50 steps"),
    run_in_processes: ("a step in warm processes",),
    rerun: ("cached rerun", "cached rerun, processor time"),
    resume: ("run again after step 4 of 6 failed",),
    crowd: ("8 processes at once, whole steps",),
    crowd_of_transactions: ("8 processes at once, step transactions",),
}
"""Each measure, and the figures that it gives."""
_BRIEF = (imports, start, in_process)


def measured(arena: Arena, repeats: int, only: str, *, quick: bool) -> dict[str, Values]:
    """What a contender reaches, or why it does not."""
    found: dict[str, Values] = {}
    for measure, gives in MEASURES.items():
        if only not in measure.__name__ or (quick and arena.contender in PEERS and measure not in _BRIEF):
            continue
        print(f"{arena.contender.name}: {measure.__name__}", file=sys.stderr)
        try:
            found |= measure(arena, repeats)
        except Missing as missing:
            found |= dict.fromkeys(gives, str(missing))
    return found


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="end within a minute: three repeats, the two quickest peers"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", action="store_true", help="write the table into benchmarks/README.md")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="measure the peers that are installed there")
    parser.add_argument("--among", default="", metavar="NAMES", help="only these peers, as in dbos,dagster")
    parser.add_argument("--only", default="", metavar="TEXT", help="only measures with this in their name")
    parser.add_argument("--repeats", type=int, help="instead of five, or of three when quick")
    options = parser.parse_args()
    repeats = options.repeats or (3 if options.quick else 5)
    among = (
        options.among.split(",") if options.among else [peer.name for peer in PEERS if peer.quick or not options.quick]
    )
    peers = [peer for peer in PEERS if options.peers and peer.name in among]
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        reached = {}
        for contender in (OURS, FLOOR, *peers):
            binaries = (
                options.peers.resolve() / contender.name / "bin" if contender in peers else Path(sys.executable).parent
            )
            arena = Arena(contender, binaries, Path(folder), 1 if options.quick else 3)
            reached[contender.name] = measured(arena, repeats, options.only, quick=options.quick)
    found = {}
    for figure in FIGURES:
        if figure.name not in reached["tidemill"]:
            continue
        values = {name: those[figure.name] for name, those in reached.items() if figure.name in those}
        found[figure.name] = assembled(figure, values.pop("tidemill"), values.pop("nothing"), values)
    printed = f"{machine()}; medians of {repeats}\n\n{table(FIGURES, found)}"
    if options.markdown:
        write_between(Path(__file__).with_name("README.md"), "orchestrator", printed)
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else printed)


if __name__ == "__main__":
    main()
