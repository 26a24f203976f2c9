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
Host = Annotated[
    str, typer.Option(help="The address of the service. Any address but loopback needs tokens, and TLS or a proxy.")
]
TlsCert = Annotated[Path | None, typer.Option(help="The certificate with its chain, as a PEM file.")]
TlsKey = Annotated[Path | None, typer.Option(help="The private key of the certificate, as a PEM file.")]
BehindProxy = Annotated[
    bool, typer.Option("--behind-proxy", help="A proxy in front ends TLS; every request needs a token.")
]
RequireTokens = Annotated[
    bool, typer.Option("--require-tokens", help="Every request needs a token, even before one was created.")
]


def serve(
    port: Port = 8000,
    host: Host = "127.0.0.1",
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    behind_proxy: BehindProxy = False,
    require_tokens: RequireTokens = False,
    env: EnvironmentOption = "production",
) -> None:
    """Serve predictions over HTTP; notify the addresses of the policy if the daemon stops reporting."""
    from tidemill.access.exposure import Exposure
    from tidemill.core.signing import PackageSigner
    from tidemill.daemon.listening import Listener
    from tidemill.serving.server import serve as run_service

    session = load_session(env)
    _repair_board(session)
    exposure = Exposure(
        host=host, tls_cert=tls_cert, tls_key=tls_key, behind_proxy=behind_proxy, require_tokens=require_tokens
    )
    listener = Listener(session)
    listener.start()
    try:
        run_service(
            session.workspace,
            session.clock,
            exposure,
            port,
            lambda address: output.err.print(f"serving at {address} (stop with Ctrl-C)"),
            session.project.policy.strict_models,
            session.resource(PackageSigner),
            session.project.policy.serving,
            session.project.policy.find_hosts(env),
            listener.report,
            session.project.policy.journal,
            lambda server: listener.watch(server.find_problems),
            session.project.policy.shutdown,
        )
    finally:
        listener.stop()


def up(
    port: Port = 8000,
    host: Host = "127.0.0.1",
    pages_port: Annotated[
        int, typer.Option(help="The port of the web pages. Default: the port of the service plus 1.")
    ] = -1,
    pages_host: Annotated[str, typer.Option(help="The address of the web pages.")] = "127.0.0.1",
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    behind_proxy: BehindProxy = False,
    require_tokens: RequireTokens = False,
    env: EnvironmentOption = "production",
    deployment: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the daemon, the prediction service and the web pages, until Ctrl-C.

    The certificate and the options for tokens apply to the service and to the pages.
    """
    from msgspec.structs import replace

    from tidemill.access.exposure import Exposure
    from tidemill.daemon.main import Addresses
    from tidemill.daemon.main import up as run_all

    session = load_session(env, create=True)
    _open_ledger(session)
    _repair_board(session)
    exposure = Exposure(
        host=host, tls_cert=tls_cert, tls_key=tls_key, behind_proxy=behind_proxy, require_tokens=require_tokens
    )
    addresses = Addresses(
        service=exposure,
        port=port,
        pages=replace(exposure, host=pages_host),
        pages_port=pages_port if pages_port >= 0 else port and port + 1,
    )
    run_all(session, addresses, lambda line: output.err.print(line), _read_policies, deployment)


def _open_ledger(session: "Session") -> None:
    """Open the ledger, or create it in a new project, before any page or thread reads it; the daemon waits for one."""
    from tidemill.errors import TidemillError

    try:
        session.workspace.ledger  # noqa: B018 - it is opened
    except TidemillError as unavailable:
        output.err.print(f"warning: the ledger cannot be opened now: {unavailable}", style="yellow")


def _repair_board(session: "Session") -> None:
    """Publish what the ledger has and the board has not; without a ledger, the service still starts."""
    from tidemill.access.tokens import publish_tokens
    from tidemill.errors import TidemillError
    from tidemill.registry.publication import publish_routes

    workspace = session.workspace
    file = workspace.ledger_file
    if file is not None and not file.exists():
        return
    try:
        publish_tokens(workspace.ledger, [workspace.board])
        publish_routes(workspace.ledger, workspace.board, workspace.environment)
    except TidemillError as unavailable:
        output.err.print(f"warning: the board could not be compared with the ledger: {unavailable}", style="yellow")


def _read_policies(session: "Session") -> "list[PolicyStatus]":
    """Compare the policy of each model with its promise; the modules of the backtest load on the first call."""
    from tidemill.backtest.observed import compare_with_promise

    return [compare_with_promise(session, name) for name in session.project.policy.models]
