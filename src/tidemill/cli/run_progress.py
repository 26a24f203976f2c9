"""Prints the steps of a run while it runs."""

import shutil
import sys
from collections.abc import Callable
from contextlib import suppress

from tidemill.cli import output
from tidemill.core.run import StepRun

_FEW_STEPS = 10
_LONG_SECONDS = 10.0
_BAD_STATES = ("failed", "interrupted")
_FOLLOWS = "whose output it uses, failed"


class RunProgress:
    """Prints a line to stderr for finished steps; on a terminal, the running steps too.

    A pipeline with at most ten steps prints all of them. A longer one prints only the steps that failed, were retried
    or took ten seconds, unless `verbose`: `tidemill runs show` lists the others. `count_steps` returns the number of
    steps of a run.
    """

    def __init__(self, *, quiet: bool, verbose: bool = False, count_steps: Callable[[str], int] = lambda _: 0) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._count_steps = count_steps
        self._live = sys.stderr.isatty()
        self._running: dict[str, None] = {}
        self.run = ""

    def report(self, step: StepRun) -> None:
        """Report a step that starts, is retried or finishes."""
        if step.run != self.run and not self._quiet:
            self._verbose = self._verbose or self._count_steps(step.run) <= _FEW_STEPS
        self.run = step.run
        if self._quiet:
            return
        if step.state != "running":
            self._running.pop(step.step, None)
            seconds = f"{step.seconds:6.2f} s" if step.seconds is not None else " " * 8
            is_cause = step.state in _BAD_STATES and _FOLLOWS not in step.error
            if self._verbose or is_cause or (step.seconds or 0.0) >= _LONG_SECONDS:
                self._line(f"  {step.state:11} {seconds}  {step.step:22} {step.error or step.reason}")
        else:
            self._running[step.step] = None
            if step.attempt > 1:
                self._line(f"  try {step.attempt:<7} {'':8}  {step.step:22} {step.error}")
        if self._live:
            width = shutil.get_terminal_size().columns
            running = f"  … {', '.join(self._running)}"[: width - 1] if self._running else ""
            output.err.print(f"\x1b[2K{running}", end="\r")

    def _line(self, text: str) -> None:
        erased = "\x1b[2K" if self._live else ""
        with suppress(BrokenPipeError):  # stderr is closed: the run continues
            sys.stderr.write(f"{erased}{text}\n")
            sys.stderr.flush()
