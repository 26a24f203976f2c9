"""`mcp`: an MCP server on stdio, for agents and programs."""

from tidemill.cli.session import EnvironmentOption, load_session, require_actor


def mcp(env: EnvironmentOption = "production") -> None:
    """Serve the records to an agent over MCP (stdio). It reads, and can propose a run or a promotion; people decide."""
    from tidemill.cli.mcp_server import create_server

    session = load_session(env)

    def find_actor() -> str:
        """Return the owner of the token, which can expire or be revoked while the server runs."""
        return f"{require_actor(session).name}, by MCP"

    find_actor()
    create_server(session, find_actor).run()
