"""`tidemill ci run` on a real bare repository: what passes, what is refused, and what cannot be judged."""

import pickle
from pathlib import Path

from tests.delivery.repositories import TEST, Repository, git
from tests.projects import DOUBLING, tidemill

SECRET = "AKIA" + "IOSFODNN7EXAMPLQ"


def test_a_commit_that_passes_is_recorded_with_its_packages_and_verdicts(repository: Repository) -> None:
    build = repository.build()
    assert (build.state, build.number, build.commit) == ("passed", 1, repository.commit)
    assert (build.branch, build.base, build.authors) == ("main", "", ("ann@example.com",))
    assert set(build.artifacts) == {"source", "wheel", "executable", "lock", "sbom", "ml-bom", "tidemill"}
    assert build.packages["polars"]
    assert "pytest" not in build.packages
    assert build.packages["tidemill"]
    assert build.system["openssl"]
    verdicts = repository.verdicts(build)
    assert set(verdicts) == {"ci", "ci_environment", "ci_tests", "ci_project", "ci_security"}
    assert {verdict.outcome for verdict in verdicts.values()} == {"pass"}
    assert verdicts["ci_tests"].reason == "1 tests passed"
    assert verdicts["ci_tests"].subject == build.commit
    (event,) = repository.session.workspace.ledger.events.find(kind="build")
    assert event.payload["build"] == build.id
    assert event.payload["state"] == "passed"
    shown = tidemill(repository.host, "runs", "show", build.run).stdout
    assert "run_tests" in shown

    again = repository.run()
    assert "nothing changed since build kit@1" in again.stdout
    assert len(repository.builds) == 1

    lock = (repository.work / "requirements-test.lock").read_text()
    older = lock.replace(f"pytest=={_version(lock, 'pytest')}", "pytest==8.3.4")
    repository.push({"pipeline.py": DOUBLING + "# changed\n", "README.md": "text", "requirements-test.lock": older})
    why = tidemill(repository.host, "ci", "why", "--remote", str(repository.bare)).stdout
    assert "pipeline.py" in why
    assert "8.3.4" in why
    assert "README.md" not in why


def _version(lock: str, name: str) -> str:
    return next(line.partition("==")[2] for line in lock.splitlines() if line.startswith(f"{name}=="))


def test_a_commit_is_refused_with_all_of_its_problems(repository: Repository) -> None:
    class Exploit:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, ("true",)

    failing = TEST.replace("== 4", "== 5")
    changes = {"tests/test_kit.py": failing, "settings.py": f'KEY = "{SECRET}"\n', "m.pkl": pickle.dumps(Exploit())}
    repository.push(changes, email="bob@example.com")
    refused = repository.run(code=3)
    (build,) = repository.builds
    assert build.state == "refused"
    verdicts = repository.verdicts(build)
    failed = {name for name, verdict in verdicts.items() if verdict.outcome == "fail"}
    assert failed == {"ci", "ci_tests", "ci_security"}
    assert "1 of 1 tests failed: tests.test_kit::test_double" in build.reason
    assert "settings.py, line 1: it contains a AWS access key" in build.reason
    assert "m.pkl: it would run posix.system when it is loaded" in build.reason
    ledger = repository.session.workspace.ledger
    (run,) = ledger.runs.find(pipeline="ci")
    assert run.state == "stopped"
    assert SECRET not in refused.stdout + refused.stderr + repr(ledger.verdicts.find()) + repr(ledger.steps.find())


def test_a_lock_that_does_not_resolve_is_an_error_in_the_words_of_uv(repository: Repository) -> None:
    lock = (repository.work / "requirements.lock").read_text()
    repository.push({"requirements.lock": lock + "no-such-package-of-tidemill==9.9.9\n"})
    build = repository.build(code=3)
    assert build.state == "error"
    assert "no-such-package-of-tidemill" in build.reason
    assert repository.verdicts(build)["ci"].outcome == "undecided"
    repository.push({"requirements.lock": lock.replace("msgspec==", "# msgspec==")})
    assert "msgspec" in repository.build(code=3).reason
    repository.push({"requirements.lock": "polars>=1\n"})
    assert "line 1 is not an exact version" in repository.build(code=3).reason
    repository.push({"requirements.lock": None})
    assert "the commit has no requirements.lock" in repository.build(code=3).reason


def test_a_test_that_hangs_and_forks_is_ended(repository: Repository, tmp_path: Path) -> None:
    mark = tmp_path / "process"
    hanging = f"""
import os, time

def test_hanging() -> None:
    if os.fork() == 0:
        os.setsid()
        open({str(mark)!r}, "w").write(str(os.getpid()))
        os.execve("/bin/sleep", ["sleep", "1000"], {{}})
    while not os.path.exists({str(mark)!r}):
        time.sleep(0.01)
    time.sleep(1000)
"""
    policy = repository.host / "tidemill.toml"
    policy.write_text(policy.read_text().replace("[ci]\n", '[ci]\ntimeout = "10s"\n'))
    repository.build()  # the environment is ready, and its code compiled
    repository.push({"tests/test_kit.py": hanging})
    build = repository.build(code=3)
    assert build.state == "refused"
    assert "the tests were ended during tests/test_kit.py::test_hanging: pytest did not end within 10 s" in build.reason
    process = Path(f"/proc/{mark.read_text()}/stat")
    assert not process.exists() or process.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_project_that_cannot_be_loaded_or_has_a_wrong_policy_is_refused(repository: Repository) -> None:
    repository.push({"pipeline.py": "import nothing_like_this\n", "tests/test_kit.py": "def test_x(): pass\n"})
    build = repository.build(code=3)
    assert build.state == "refused"
    assert "No module named 'nothing_like_this'" in repository.verdicts(build)["ci_project"].reason
    repository.push({"tidemill.toml": "[project]\nname = 'kit'\n[nonsense]\n", "pipeline.py": DOUBLING})
    build = repository.build(code=3)
    assert build.state == "refused"
    assert "nonsense" in build.reason
    repository.push({"tidemill.toml": "[project]\nname = 'another'\n[sources.rows]\npath = 'x.csv'\n"})
    assert "the commit is of the project 'another'" in repository.build(code=3).reason


def test_a_replaced_commit_is_an_error_and_a_deleted_branch_a_message(repository: Repository) -> None:
    wrong = repository.push({"pipeline.py": DOUBLING + "# wrong\n"})
    git(repository.work, "reset", "-q", "--hard", "HEAD~1")
    repository.push({"pipeline.py": DOUBLING + "# right\n"})
    build = repository.build("--branch", "main", "--commit", wrong, code=3)
    assert (build.state, build.commit) == ("error", wrong)
    assert "does not contain the commit" in build.reason
    gone = repository.run("--branch", "gone", code=2)
    assert "has no branch 'gone'" in gone.stderr
    assert "cannot be refused" not in gone.stderr
    assert len(repository.builds) == 1


def test_vulnerable_packages_are_refused_where_advisories_are_set(repository: Repository) -> None:
    policy = repository.host / "tidemill.toml"
    policy.write_text(policy.read_text().replace("[ci]\n", '[ci]\nadvisories = "osv"\n'))
    missing = repository.build(code=3)
    assert missing.state == "error"
    assert "there are no advisories at" in missing.reason
    (repository.host / "osv").mkdir()
    (repository.host / "osv" / "GHSA-1.json").write_text(
        '{"id": "GHSA-1", "summary": "wrong sums", "affected": [{"package": {"ecosystem": "PyPI", "name": "polars"},'
        ' "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]}'
    )
    refused = repository.build(code=3)
    assert refused.state == "refused"
    assert "polars: version" in refused.reason
    assert "GHSA-1: wrong sums" in refused.reason
    policy.write_text(policy.read_text().replace("[ci]\n", '[ci]\nallowed_advisories = ["GHSA-1"]\n'))
    allowed = repository.build()
    assert allowed.state == "passed"
    assert "GHSA-1" in allowed.reason
