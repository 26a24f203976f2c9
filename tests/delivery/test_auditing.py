"""A promotion by the policy is in the audit log like one by a person, and the signed head is exported after it.

That is so for builds, which the daemon deploys, and for models, which a training releases.
"""

from pathlib import Path

import pytest

from tests.delivery.builds import add_build, share_environments
from tests.delivery.test_deploying import open_control
from tests.delivery.test_pushes import until, up
from tests.keys import make_key
from tests.projects import listed, make_project, tidemill
from tidemill.core.fleet import Fleet


def make_audited_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """Return a project whose audit log is signed, the folder of its heads, and the public key."""
    key, public = make_key(tmp_path, "audit", "ed25519")
    heads, folder = tmp_path / "heads", tmp_path / "shop"
    make_project(folder)
    monkeypatch.setenv("TIDEMILL_AUDIT_KEY", str(key))
    monkeypatch.setenv("TIDEMILL_AUDIT_HEADS", str(heads))
    return folder, heads, public


def test_a_promotion_by_the_policy_is_audited_and_its_head_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build_environments: Path
) -> None:
    folder, heads, public = make_audited_shop(tmp_path, monkeypatch)
    with (folder / "tidemill.toml").open("a") as file:
        file.write('\n[environments.test]\nbranch = "main"\n')
    share_environments(open_control(folder), build_environments)
    build = add_build(open_control(folder), 1)
    try:
        with up(folder):
            until(lambda: list(heads.glob("*.json")))
    finally:
        fleet = open_control(folder).resource(Fleet)
        for running in fleet.list_running("test"):
            fleet.stop("test", running)
    (entry,) = listed(folder, "audit", "list")
    assert (entry["actor"], entry["action"], entry["reason"]) == ("policy", "promoted build", "push to main")
    assert entry["detail"]["wheel"] == build.artifacts["wheel"]
    (head,) = heads.glob("*.json")
    assert "1" in tidemill(folder, "audit", "verify", "--head", str(head), "--public-key", str(public)).stdout


def test_a_model_that_the_policy_promotes_is_audited_and_its_head_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build_environments: Path
) -> None:
    folder, heads, public = make_audited_shop(tmp_path, monkeypatch)
    run = listed(folder, "run", "training")
    (entry,) = listed(folder, "audit", "list")
    (gate,) = listed(folder, "checks", "list", "--check", "gate")
    assert (entry["actor"], entry["action"], entry["subject"]) == ("policy", "promoted", "shop/1")
    assert entry["reason"].startswith("the first release; by verdict " + gate["id"])
    assert gate["reason"] in entry["reason"]
    (route,) = listed(folder, "routes", "list")
    assert entry["detail"] == {"run": run["id"], "route": route["id"], "change": "first", "verdict": gate["id"]}
    (head,) = heads.glob("*.json")
    verified = ("audit", "verify", "--head", str(head), "--public-key", str(public))
    assert "1 entries are unchanged, and continue 1 signed head" in tidemill(folder, *verified).stdout
    links = listed(folder, "why", "shop/1")
    (decision,) = [link for link in links if link["kind"] == "decision"]
    assert decision["text"] == f"policy promoted shop/1: {entry['reason']}"
    tidemill(folder, "audit", "list")
    assert len(list(heads.glob("*.json"))) == 1
    tidemill(folder, "models", "freeze", "--reason", "an audit")
    assert len(list(heads.glob("*.json"))) == 2, "each command that decides exports the head"
