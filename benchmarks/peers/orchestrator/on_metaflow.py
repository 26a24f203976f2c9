"""Metaflow: flows as files, run by its command line; each step is a separate process."""

import subprocess
import sys
from pathlib import Path

from benchmarks.peers.orchestrator import work

_LENGTHS = (5, 6, 20)


def prepare() -> None:
    """Write the flows: a chain of each length, and the training."""
    for length in _LENGTHS:
        Path(f"chain_{length}.py").write_text(flow(length))
    Path("training.py").write_text(Path(__file__).with_name("metaflow_training.py").read_text())


def flow(length: int) -> str:
    names = ["start", *(f"s{index}" for index in range(1, length - 1)), "end"]
    lines = ["from metaflow import FlowSpec, step", "from benchmarks.peers.orchestrator.work import no_op"]
    lines += [f"class Chain{length}(FlowSpec):"]
    for name, following in zip(names, [*names[1:], ""], strict=True):
        argument = "{'number': 0}" if name == "start" else "self.state"
        lines += ["    @step", f"    def {name}(self):", f"        self.state = no_op({argument})"]
        lines += [f"        self.next(self.{following})"] if following else []
    return "\n".join((*lines, "if __name__ == '__main__':", f"    Chain{length}()", ""))


def command(flow: str, *arguments: str) -> None:
    subprocess.run((sys.executable, f"{flow}.py", "--no-pylint", *arguments), check=True)


def count() -> int:
    return sum(1 for _ in Path(".metaflow/Chain6").glob("*/[!_]*/*/*.DONE.lock"))


if __name__ == "__main__":
    chains: dict[str, work.Chain | str] = {
        "inline": lambda length: command(f"chain_{length}", "run", "--max-workers", "2"),
        "processes": "every step has its own process: see the row above",
    }
    work.drive(
        chains,
        train=lambda: command("training", "run", "--max-workers", "2"),
        resume=lambda: command("training", "resume"),
        count=count,
        prepare=prepare,
    )
