"""`serve` runs the prediction service; `up` also runs the daemon and the pages."""

from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import Environment, session_here

Port = Annotated[int, typer.Option(help="The port to listen at.")]
Host = Annotated[str, typer.Option(help="The address to bind to.")]


def serve(port: Port = 8000, host: Host = "127.0.0.1", env: Environment = "production") -> None:
    """Answer predictions over HTTP; tell those whom the policy names when the daemon falls silent."""
    from tidemill.daemon.listening import Listener
    from tidemill.serving.server import serve as serve_until_ended

    session = session_here(env)
    listener = Listener(session)
    listener.start()
    try:
        serve_until_ended(
            session.workspace,
            session.clock,
            host,
            port,
            lambda address: output.err.print(f"answering at {address} (Ctrl-C ends it)"),
        )
    finally:
        listener.stop()


def up(
    port: Port = 8000,
    host: Host = "127.0.0.1",
    pages_port: Annotated[int, typer.Option(help="The port of the web pages; the next one, if not given.")] = -1,
    env: Environment = "production",
) -> None:
    """Run the daemon, the prediction service and the web pages, until Ctrl-C."""
    from tidemill.daemon.main import up as up_until_ended

    chosen = pages_port if pages_port >= 0 else port and port + 1
    up_until_ended(session_here(env), host, port, chosen, lambda line: output.err.print(line))
