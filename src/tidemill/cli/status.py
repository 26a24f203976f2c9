"""`status`: what is in production, and what needs a person."""

from tidemill.cli import output
from tidemill.cli.session import EnvironmentOption, Json, load_session


def status(env: EnvironmentOption = "production", json: Json = False) -> None:
    """Show what is in production, and everything that needs a person: stopped batches, approvals, failed runs."""
    from tidemill.core.damage import Checked
    from tidemill.core.route import describe_arms
    from tidemill.errors import StoreMissing
    from tidemill.evidence.attention import list_actions

    session = load_session(env)
    lost: StoreMissing | None = None
    try:
        session.workspace.require_stores()
    except StoreMissing as missing:
        lost = missing
    board = session.workspace.board
    routes = [route for route in board.routes().values() if route.environment == env]
    damages = board.damages() if lost is None and isinstance(board, Checked) else []
    items = list_actions(session.workspace.ledger, env, session.clock.now())
    if json:
        output.print_json({"routes": routes, "needs": items, "lost": lost.problem if lost else "", "damages": damages})
        return
    for route in routes:
        arms = describe_arms([arm for arm in route.arms if arm.role != "shadow"])
        output.out.print(f"{route.model}: {arms} since {output.format_cell(route.since)}: {route.reason}")
    if not (routes or damages):
        output.out.print("no release is in production yet: `tidemill run training`")
    if lost is not None:
        output.out.print(f"needs a person: {lost.problem}", style="bold")
        output.out.print(f"  {lost.cure}")
    for damage in damages:
        output.out.print(f"needs a person: {damage.store}: {damage.name} {damage.problem}", style="bold")
        output.out.print(f"  {damage.cure}")
    if not (items or lost or damages):
        output.out.print("nothing needs a person")
    for item in items:
        output.out.print(f"needs a person: {item.what}", style="bold")
        output.out.print(f"  {item.why}")
        output.out.print(f"  {item.cure}")
