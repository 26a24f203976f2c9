"""`serve` runs the prediction service; `up` also runs the daemon and the pages."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import EnvironmentOption, load_session

if TYPE_CHECKING:
    from tidemill.evidence.promises import PolicyStatus
    from tidemill.flow.session import Session

Port = Annotated[int, typer.Option(help="The port of the service.")]
Host = Annotated[str, typer.Option(help="The address of the service.")]


def serve(port: Port = 8000, host: Host = "127.0.0.1", env: EnvironmentOption = "production") -> None:
    """Serve predictions over HTTP; notify the addresses of the policy if the daemon stops reporting."""
    from tidemill.daemon.listening import Listener
    from tidemill.serving.server import serve as run_service

    session = load_session(env)
    listener = Listener(session)
    listener.start()
    try:
        run_service(
            session.workspace,
            session.clock,
            host,
            port,
            lambda address: output.err.print(f"serving at {address} (stop with Ctrl-C)"),
            session.project.policy.strict_models,
        )
    finally:
        listener.stop()


def up(
    port: Port = 8000,
    host: Host = "127.0.0.1",
    pages_port: Annotated[
        int, typer.Option(help="The port of the web pages. Default: the port of the service plus 1.")
    ] = -1,
    env: EnvironmentOption = "production",
    deployment: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the daemon, the prediction service and the web pages, until Ctrl-C."""
    from tidemill.daemon.main import up as run_all

    port_of_pages = pages_port if pages_port >= 0 else port and port + 1
    run_all(
        load_session(env), host, port, port_of_pages, lambda line: output.err.print(line), _read_policies, deployment
    )


def _read_policies(session: "Session") -> "list[PolicyStatus]":
    """Compare the policy of each model with its promise; the modules of the backtest load on the first call."""
    from tidemill.backtest.observed import compare_with_promise

    return [compare_with_promise(session, name) for name in session.project.policy.models]
