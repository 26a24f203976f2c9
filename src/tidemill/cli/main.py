"""`tidemill`: the entry point. Errors are one line with a cure, and set the exit code."""

import logging
import os
import sys
import traceback
from importlib import import_module
from typing import Any

import typer

from tidemill import __version__
from tidemill.cli.output import err
from tidemill.credentials import hide_in_logs, hide_secrets
from tidemill.errors import TidemillError
from tidemill.telemetry import configure_logging

# The module of each command. Only the module of the requested command is loaded: loading all takes twice as long.
VERBS = {
    "init": "init",
    "run": "run",
    "show": "graph",
    "why": "why",
    "status": "status",
    "maturity": "maturity",
    "mcp": "mcp",
    "backtest": "backtest",
    "demo": "backtest",
    "gc": "upkeep",
    "backup": "upkeep",
    "restore": "upkeep",
    "erase": "upkeep",
    "doctor": "doctor",
    "serve": "service",
    "up": "service",
}
NOUNS = {  # the first module defines the noun, the others add commands to it
    "checks": ["checks"],
    "events": ["events"],
    "proposals": ["proposals"],
    "routes": ["routes"],
    "regimes": ["regimes"],
    "triggers": ["triggers"],
    "jobs": ["triggers"],
    "audit": ["audit"],
    "tokens": ["tokens"],
    "models": ["models", "models_deploy", "models_compare", "models_export", "models_sign"],
    "runs": ["runs", "runs_evidence", "runs_reproduce"],
    "data": ["data", "data_batches"],
    "features": ["features"],
    "policy": ["policy"],
    "deploy": ["deploy"],
    "ci": ["ci", "ci_pushes", "ci_builds", "ci_tests", "ci_upgrades"],
    "evidence": ["evidence"],
}


def command_line(word: str = "") -> typer.Typer:
    """Return the command line with the command `word`, or with all commands if there is no such command."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        help="Train, deploy, monitor and retrain machine-learning models on tables of data.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(start)
    is_command = word in VERBS or word in NOUNS
    for name, module in VERBS.items():
        if name == word or not is_command:
            app.command(name)(getattr(_load_module(module), name))
    for name, modules in NOUNS.items():
        if name == word or not is_command:
            first, *_ = [_load_module(module) for module in modules]
            app.add_typer(getattr(first, name), name=name)
    return app


def _load_module(name: str) -> Any:
    return import_module(f"tidemill.cli.{name}")


def start(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Set up the logs."""
    configure_logging()
    hide_in_logs(logging.getLogger("tidemill"))
    if version:
        typer.echo(f"tidemill {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 success, 1 failed, 2 wrong input, 3 stopped, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        app = command_line(next((word for word in words if not word.startswith("-")), ""))
        code = app(args=arguments, standalone_mode=False, prog_name="tidemill")
    except TidemillError as error:
        return _report_error(error)
    except (KeyboardInterrupt, typer.Abort):
        err.print("interrupted", style="yellow")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as bug:  # noqa: BLE001 - the last line of defence: no user sees a traceback
        if hasattr(bug, "format_message"):  # an error of usage, by Click
            return _report_usage(bug)
        if os.environ.get("TIDEMILL_DEBUG"):
            traceback.print_exc()
        text = str(bug).splitlines()[0] if str(bug) else ""
        hint = "this is a bug in Tidemill: set TIDEMILL_DEBUG=1 for the traceback, and report it"
        err.print(f"error: {type(bug).__name__}: {text} — {hint}", style="red")
        return 1
    return code if isinstance(code, int) else 0


def _report_usage(error: Any) -> int:
    command = error.ctx.command_path if getattr(error, "ctx", None) else "tidemill"
    err.print(f"error: {error.format_message()} — see `{command} --help`", style="red")
    return 2


def _report_error(error: TidemillError) -> int:
    if os.environ.get("TIDEMILL_DEBUG"):
        traceback.print_exc()
    kind = "stopped" if error.exit_code == 3 else "error"
    err.print(
        f"{kind}: {hide_secrets(' '.join(str(error).split()))}", style="yellow" if error.exit_code == 3 else "red"
    )
    return error.exit_code
