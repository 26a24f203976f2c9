"""The MCP server over stdio, with the client of its own package: it reads everything, proposes, and decides nothing."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from tests.projects import listed, make_project, tidemill
from tidemill.compose.backends import open_workspace
from tidemill.errors import ConfigurationError
from tidemill.project.project import Project

Reply = dict[str, Any]
READS: dict[str, Reply] = {
    "status": {},
    "list_runs": {"pipeline": "training", "limit": 5},
    "list_releases": {"model": "shop"},
    "show_release": {"release": "shop/1"},
    "list_routes": {},
    "list_verdicts": {"check": "gate"},
    "list_events": {},
    "list_jobs": {},
    "list_schemas": {"source": "rows"},
    "list_builds": {},
    "list_deployments": {},
    "list_decisions": {},
    "why": {"id": "shop/1"},
    "lineage": {"id": "shop/1", "depth": 2},
    "maturity": {},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one release in production."""
    project = make_project(tmp_path_factory.mktemp("mcp") / "shop")
    tidemill(project.folder, "run", "training")
    return project


def talk(project: Project, conversation: Callable[[Client], Awaitable[None]], **variables: str) -> None:
    """Start the server of a project as a process, and talk to it."""

    async def run() -> None:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "tidemill", "mcp"],
            env={"TIDEMILL_PROJECT": str(project.folder), "TIDEMILL_WORKSPACE": str(project.state_folder)} | variables,
        )
        async with Client(stdio_client(server)) as client:
            await conversation(client)

    asyncio.run(run())


async def call(client: Client, tool: str, **arguments: Any) -> Reply:
    """Return the reply of a tool that succeeds."""
    reply = await client.call_tool(tool, arguments)
    assert not reply.is_error, reply.content
    assert isinstance(reply.structured_content, dict)
    return reply.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """Return the error of a tool that fails."""
    reply = await client.call_tool(tool, arguments)
    assert reply.is_error, reply.structured_content
    return str(reply.content[0].text)  # type: ignore[union-attr]  # errors are texts


def records(project: Project) -> dict[str, list[bytes]]:
    """Return all records of the ledger except events."""
    books = open_workspace(project.state_folder, "production").ledger
    return {name: list(lines) for name, lines in books.export() if name != "events"}


def test_an_agent_reads_everything_and_changes_nothing_but_adds_proposals(shop: Project) -> None:
    before = records(shop)

    async def conversation(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        hints = {name: tool.annotations.read_only_hint for name, tool in tools.items() if tool.annotations}
        assert {name for name, reads in hints.items() if not reads} == {"propose_run", "propose_promotion"}
        assert set(READS) | {"show_run"} == {name for name, reads in hints.items() if reads}
        found = {name: await call(client, name, **arguments) for name, arguments in READS.items()}
        assert found["status"]["routes"][0]["arms"][0]["release"] == "shop/1"
        assert found["show_release"]["verdicts"][1]["check"] == "gate"
        assert found["maturity"]["level"] == 0
        assert "release shop/1" in found["lineage"]["tree"]
        run = found["list_runs"]["runs"][0]
        shown = await call(client, "show_run", run=run["id"])
        assert {"fit", "gate", "release"} <= {step["step"] for step in shown["steps"]}
        assert "there is no run" in await refused(client, "show_run", run="ffffffff")
        assert "there is no model" in await refused(client, "maturity", model="flights")
        assert "set a limit" in await refused(client, "list_runs", limit=100_000)
        proposed = await call(client, "propose_run", pipeline="training", reason="drift of carrier since Monday")
        again = await call(client, "propose_run", pipeline="training", reason="drift, again")
        assert proposed["proposal"]["id"] == again["proposal"]["id"]
        await call(client, "propose_promotion", release="shop/1", reason="better on the newest rows")
        kinds = {item["kind"] for item in (await call(client, "status"))["needs"]}
        assert "proposal" in kinds

    talk(shop, conversation)
    assert records(shop) == before, "an agent decides nothing"
    events = listed(shop.folder, "events", "list", "--kind", "proposal")
    assert {event["subject"] for event in events} == {"training", "shop/1"}
    shown = tidemill(shop.folder, "status").stdout
    assert "by MCP proposes a run: training" in shown
    assert "drift of carrier since Monday" in shown
    assert "tidemill run training" in shown


def test_a_person_accepts_or_declines_a_proposal_and_it_is_no_longer_open(shop: Project) -> None:
    async def conversation(client: Client) -> None:
        await call(client, "propose_run", pipeline="ingestion", reason="a new file")
        await call(client, "propose_promotion", release="shop/1", reason="it is better")

    talk(shop, conversation)
    opened = {proposal["subject"]: proposal for proposal in listed(shop.folder, "proposals", "list")}
    assert opened["ingestion"]["command"] == "tidemill run ingestion"
    tidemill(shop.folder, "run", "ingestion")
    tidemill(shop.folder, "proposals", "decline", opened["shop/1"]["id"], "--reason", "wait for the labels")
    remaining = {proposal["subject"] for proposal in listed(shop.folder, "proposals", "list")}
    assert not {"ingestion", "shop/1"} & remaining
    decisions = listed(shop.folder, "audit", "list")
    assert ("declined", "wait for the labels") in {(entry["action"], entry["reason"]) for entry in decisions}
    event = listed(shop.folder, "events", "list", "--kind", "run")[0]
    assert (
        "is no proposal" in tidemill(shop.folder, "proposals", "decline", event["id"], "--reason=test", code=2).stderr
    )


def test_a_proposal_that_cannot_be_accepted_or_could_mislead_is_refused(shop: Project) -> None:
    async def conversation(client: Client) -> None:
        assert "no pipeline 'rm'" in await refused(client, "propose_run", pipeline="rm", reason="x")
        assert "defines no pipeline" in await refused(client, "propose_run", pipeline="os", reason="x")
        assert "no model 'x'" in await refused(client, "propose_run", pipeline="training", reason="x", model="x")
        assert "does not exist" in await refused(client, "propose_promotion", release="shop/9", reason="x")
        assert "no environment" in await refused(
            client, "propose_promotion", build="1", environment="production", reason="x"
        )
        assert "set one of the two" in await refused(client, "propose_promotion", reason="x")
        assert "has no reason" in await refused(client, "propose_run", pipeline="watching", reason=" ")
        assert "control characters" in await refused(
            client, "propose_run", pipeline="watching", reason="\x1b[2Japprove now"
        )
        assert "characters" in await refused(client, "propose_run", pipeline="watching", reason="x" * 501)
        quoted = await call(
            client, "propose_run", pipeline="watching", reason="x", params={"now": "2026-01-01; rm -rf /"}
        )
        assert quoted["proposal"]["command"] == "tidemill run watching -p 'now=2026-01-01; rm -rf /'"
        for number in range(30):
            reply = await client.call_tool(
                "propose_run", {"pipeline": "watching", "reason": "x", "params": {"now": f"{number}"}}
            )
        assert "proposals are open already" in str(reply.content)

    talk(shop, conversation)


def test_no_trigger_can_accept_a_proposal(tmp_path: Path) -> None:
    passage = "[[triggers]]            # check and ingest new rows"
    trigger = '[[triggers]]\nname = "obey"\non = "proposal"\npipeline = "training"\n\n'
    with pytest.raises(ConfigurationError, match="waits for a proposal"):
        make_project(tmp_path / "shop", replace={passage: trigger + passage})


def test_a_token_that_is_not_valid_starts_no_server(shop: Project) -> None:
    assert "token" in tidemill(shop.folder, "mcp", code=1, TIDEMILL_TOKEN="forged").stderr


def test_a_token_that_is_revoked_while_the_server_runs_proposes_nothing(shop: Project) -> None:
    token = tidemill(shop.folder, "tokens", "create", "agent", "--owner", "agent", "--role", "viewer").stdout.strip()

    async def conversation(client: Client) -> None:
        written = await call(client, "propose_promotion", release="shop/1", reason="by an agent")
        assert written["proposal"]["by"] == "agent, by MCP"
        await asyncio.to_thread(tidemill, shop.folder, "tokens", "revoke", "agent", "--reason=test")
        assert "revoked" in await refused(client, "propose_promotion", release="shop/1", reason="again")

    identifiers = [proposal["id"] for proposal in listed(shop.folder, "proposals", "list")]
    for identifier in identifiers:
        tidemill(shop.folder, "proposals", "decline", identifier, "--reason=test")
    talk(shop, conversation, TIDEMILL_TOKEN=token)
