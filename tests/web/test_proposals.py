"""Proposals of programs on the first page."""

from pathlib import Path

from starlette.testclient import TestClient

from tests.web import kit
from tidemill.clock import SystemClock
from tidemill.core.event import ProposalPayload
from tidemill.ledger.proposals import write_proposal


def test_an_open_proposal_is_on_the_first_page_with_the_command_that_accepts_it(tmp_path: Path) -> None:
    mill = kit.Mill(tmp_path)
    payload = ProposalPayload(
        proposal="run", by="agent <b>", reason=kit.EVIL[:60], command="tidemill run training", pipeline="training"
    )
    proposal, is_new = write_proposal(mill.books, SystemClock(), payload, "training", "production")
    assert is_new
    browser = TestClient(kit.create_pages(mill), base_url="http://localhost:8000")
    page = browser.get("/").text
    assert "tidemill run training" in page
    assert f'href="/events/{proposal.id}"' in page
    assert "agent &lt;b&gt; proposes a run" in page
    assert "<script>alert" not in page
