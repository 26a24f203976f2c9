"""The overhead of orchestrators: Tidemill, the floor of plain files and SQLite, and the peers, in one run.

Every contender is a script in `peers/orchestrator` that does the same jobs (`work.py` lists them). `--peers` is the
folder in which `peers/orchestrator/install` has installed the peers.
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

from benchmarks._processes import FinishedProcess, Missing, describe_failure, require_success, run
from benchmarks._report import Figure, Values, build_figure, describe_machine, format_table, write_between

_ROOT = Path(__file__).parents[1]
_SCRIPTS = Path(__file__).parent / "peers" / "orchestrator"
_CROWD = 8
_TIMEOUT = 240.0
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
    """A measured tool: `commands` are the command lines of the jobs that it starts itself."""

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
    """One contender with its interpreter, and a folder for each of its states."""

    def __init__(self, contender: Contender, binaries: Path, folder: Path, seconds: float) -> None:
        self.contender = contender
        self.seconds = seconds
        self._folder = folder
        self._fill = {"bin": str(binaries), "script": str(_SCRIPTS / f"on_{contender.name}.py")}

    def prepare_state(self, state: str) -> Path:
        """Return the folder of a state; create and prepare it on the first call."""
        folder = self._folder / self.contender.name / state
        if not folder.exists():
            folder.mkdir(parents=True)
            require_success(self.job("prepare", state=state))
        return folder

    def command(self, job: str, *arguments: str) -> list[str]:
        """Return the command line of a job."""
        template = self.contender.commands.get(job, ("{bin}/python", "{script}", job))
        return [part.format(**self._fill) for part in template] + list(arguments)

    def python(self, code: str) -> FinishedProcess:
        """Run code in a fresh interpreter of the contender."""
        folder = self._folder / self.contender.name
        folder.mkdir(exist_ok=True)
        return require_success(run([self._fill["bin"] + "/python", "-c", code], folder, self.environment(folder)))

    def job(self, job: str, *arguments: str, state: str = "chain", **variables: str) -> FinishedProcess:
        """Run a job in the folder of a state."""
        folder = self._folder / self.contender.name / state if job == "prepare" else self.prepare_state(state)
        return run(self.command(job, *arguments), folder, self.environment(folder) | variables)

    def read_result(self, job: str, *arguments: str) -> Any:
        """Run a job; return its result and its process."""
        process = require_success(self.job(job, *arguments))
        return _parse_result(process.out.splitlines()), process

    def environment(self, folder: Path) -> dict[str, str]:
        """Return this process's environment with bytecode on, telemetry off, and all state below `folder`."""
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        homes = {name: str(folder / "home") for name in _HOMES}
        (folder / "home").mkdir(exist_ok=True)
        bytecode = {"PYTHONPYCACHEPREFIX": str(self._folder / "bytecode"), "PYTHONPATH": str(_ROOT)}
        return inherited | _QUIET | homes | bytecode | {"USERNAME": "bench"}


def imports(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """Measure a new interpreter that imports the package and exits."""
    code = arena.contender.imports
    if arena.contender is OURS:
        arena.python(f"{code}, sys; found = set({_HEAVY}) & set(sys.modules); assert not found, found")
    arena.python(code)
    return {"import": [arena.python(code).seconds * 1000 for _ in range(repeats)]}


def start(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """Measure the time from the start of the command to the first line of the first step."""
    return {"start to first step": [_first_step(arena) for _ in range(repeats + 1)][1:]}


def _first_step(arena: Arena) -> float:
    start_file = arena.prepare_state("chain") / "first"
    start_file.unlink(missing_ok=True)
    started = time.time_ns()
    require_success(arena.job("first", BENCH_FIRST=str(start_file)))
    return (int(start_file.read_text()) - started) / 1e6


def in_process(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """Measure a no-op step with its artifact and its record: the slope between two lengths, in one warm process."""
    slopes, process = arena.read_result("time", "inline", arena.contender.lengths, str(repeats))
    return {"a step in process": slopes, "peak memory of 50 steps": [process.peak]}


def run_in_processes(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """Measure the same with worker processes."""
    return {
        "a step in warm processes": arena.read_result(
            "time", "processes", arena.contender.lengths_in_processes, str(repeats)
        )[0]
    }


def rerun(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """Measure the whole process of an unchanged training."""
    trace = arena.prepare_state("training") / "trace"
    reruns = [_training(arena, trace) for _ in range(repeats + 1)][1:]
    if repeated := _read_trace(trace)[6:]:
        raise Missing(f"has no cache: each rerun ran {len(repeated) // repeats} steps, in {reruns[0].seconds:.1f} s")
    return {
        "cached rerun": [process.seconds for process in reruns],
        "cached rerun, processor time": [process.cpu for process in reruns],
    }


def _training(arena: Arena, trace: Path) -> FinishedProcess:
    return require_success(arena.job("train", state="training", BENCH_TRACE=str(trace)))


def resume(arena: Arena, _: int) -> dict[str, list[float]]:
    """Count the steps that run when a training that failed in its fourth step is resumed."""
    trace = arena.prepare_state("failing") / "trace"
    failed = arena.job("train", state="failing", BENCH_TRACE=str(trace), BENCH_FAIL="1")
    if not failed.code or _read_trace(trace) != ["load", "validate", "split", "train"]:
        raise Missing(f"did not fail in step 4 as it should: {describe_failure(failed.code, failed.err)}")
    require_success(arena.job("resume", state="failing", BENCH_TRACE=str(trace)))
    return {"run again after step 4 of 6 failed": [float(len(_read_trace(trace)) - 4)]}


def _read_trace(trace: Path) -> list[str]:
    """Return the steps that ran, in order."""
    return trace.read_text().split() if trace.exists() else []


def crowd(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """Measure eight processes that run short chains on one state at the same time."""
    return {"8 processes at once, whole steps": _rates(arena, "inline", repeats)}


def crowd_of_transactions(arena: Arena, repeats: int) -> dict[str, list[float]]:
    """Measure eight processes that only record steps, in one transaction each."""
    if arena.contender not in (OURS, FLOOR):
        return {}
    return {"8 processes at once, step transactions": _rates(arena, "transactions", repeats)}


def _rates(arena: Arena, kind: str, repeats: int) -> list[float]:
    """Return the steps per second of all processes; raise `Missing` if a step is not recorded."""
    folder = arena.prepare_state("chain")
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
        alarm = threading.Timer(_TIMEOUT, _kill, (crowd,))
        alarm.start()
        try:
            for process in crowd:
                _read_answer(process, err)
            before = arena.read_result("count")[0]
            rates, steps = [], 0
            for _ in range(repeats):
                for process in crowd:
                    assert process.stdin is not None
                    process.stdin.write("\n")
                    process.stdin.flush()
                starts, ends, counts = zip(*(_read_answer(process, err) for process in crowd), strict=True)
                rates.append(sum(counts) / (max(ends) - min(starts)))
                steps += sum(counts)
            recorded = arena.read_result("count")[0] - before
        finally:
            alarm.cancel()
            _kill(crowd)
            for process in crowd:
                process.communicate()
    if recorded != steps:
        raise Missing(f"{_CROWD} processes ran {steps:,} steps, but its records have {recorded:,}")
    return rates


def _kill(crowd: list["subprocess.Popen[str]"]) -> None:
    for process in crowd:
        with suppress(ProcessLookupError):  # the group includes servers that the process started
            os.killpg(process.pid, signal.SIGKILL)


def _read_answer(process: "subprocess.Popen[str]", err: Any) -> Any:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("result "):
            return _parse_result([line])
    code = process.wait()
    if code == -signal.SIGKILL:
        raise Missing(f"failed: {_CROWD} processes at once did not finish within {_TIMEOUT:.0f} s")
    err.seek(0)
    raise Missing(describe_failure(code, err.read().decode(errors="replace")))


def _parse_result(lines: list[str]) -> Any:
    results = [line.removeprefix("result ") for line in lines if line.startswith("result ")]
    if not results:
        raise Missing("failed: it printed no result")
    return json.loads(results[-1])


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
"""Each measure with the names of its figures."""
_BRIEF = (imports, start, in_process)


def measure_contender(arena: Arena, repeats: int, only: str, *, quick: bool) -> dict[str, Values]:
    """Return the values of a contender, or the reasons why there are none."""
    values: dict[str, Values] = {}
    for measure, names in MEASURES.items():
        if only not in measure.__name__ or (quick and arena.contender in PEERS and measure not in _BRIEF):
            continue
        print(f"{arena.contender.name}: {measure.__name__}", file=sys.stderr)
        try:
            values |= measure(arena, repeats)
        except Missing as missing:
            values |= dict.fromkeys(names, str(missing))
    return values


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="within a minute: three repeats, the two fastest peers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", action="store_true", help="write the table into benchmarks/README.md")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="measure the peers in this folder")
    parser.add_argument("--among", default="", metavar="NAMES", help="only these peers, as in dbos,dagster")
    parser.add_argument("--only", default="", metavar="TEXT", help="only measures with this text in their name")
    parser.add_argument("--repeats", type=int, help="the number of repeats; the default is 5, or 3 with --quick")
    options = parser.parse_args()
    repeats = options.repeats or (3 if options.quick else 5)
    among = (
        options.among.split(",") if options.among else [peer.name for peer in PEERS if peer.quick or not options.quick]
    )
    peers = [peer for peer in PEERS if options.peers and peer.name in among]
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        by_contender = {}
        for contender in (OURS, FLOOR, *peers):
            binaries = (
                options.peers.resolve() / contender.name / "bin" if contender in peers else Path(sys.executable).parent
            )
            arena = Arena(contender, binaries, Path(folder), 1 if options.quick else 3)
            by_contender[contender.name] = measure_contender(arena, repeats, options.only, quick=options.quick)
    results = {}
    for figure in FIGURES:
        if figure.name not in by_contender["tidemill"]:
            continue
        values = {name: measured[figure.name] for name, measured in by_contender.items() if figure.name in measured}
        results[figure.name] = build_figure(figure, values.pop("tidemill"), values.pop("nothing"), values)
    printed = f"{describe_machine()}; medians of {repeats}\n\n{format_table(FIGURES, results)}"
    if options.markdown:
        write_between(Path(__file__).with_name("README.md"), "orchestrator", printed)
    print(json.dumps(results, indent=2, ensure_ascii=False) if options.json else printed)


if __name__ == "__main__":
    main()
