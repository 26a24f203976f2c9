"""`mcp`: an MCP server on stdio, for agents and programs."""

from tidemill.cli.session import EnvironmentOption, load_session, require_actor


def mcp(env: EnvironmentOption = "production") -> None:
    """Serve the records to an agent over MCP (stdio). It reads, and can propose a run or a promotion; people decide."""
    from tidemill.cli.mcp_server import create_server

    session = load_session(env)
    actor = require_actor(session)
    create_server(session, f"{actor.name}, by MCP").run()
