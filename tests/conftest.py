"""What every test can ask for, and what the closing lines of a test run tell."""

import os
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, expect, sync_playwright

from tests import parts

# Seconds of work, summed over processes, that a suite (a folder of tests/) may take on two cores.
BUDGETS = {
    "access": 60,
    "backtest": 60,
    "benchmarks": 90,
    "cli": 180,
    "conformance": 180,
    "core": 10,
    "daemon": 180,
    "delivery": 240,
    "evidence": 45,
    "examples": 360,
    "flow": 90,
    "monitoring": 45,
    "recipes": 120,
    "serving": 60,
    "testing_kit": 120,
    "web": 60,
}
BUDGET_OF_OTHERS = 30

# The files that take longest are first, so that no core is idle while another ends one of them.
LONGEST_FILES = (
    "tests/examples/test_kills.py",
    "tests/examples/test_level2.py",
    "tests/delivery/test_container.py",
    "tests/conformance/test_engines.py",
    "tests/conformance/test_targets.py",
    "tests/delivery/test_deploying.py",
    "tests/delivery/test_upgrades.py",
    "tests/delivery/test_ci_run.py",
    "tests/recipes/test_training.py",
)

# A slow machine is no reason for a test to fail, and one commit gives one result: property tests try the same examples
# each time. TIDEMILL_FUZZ=1 looks for new ones.
settings.register_profile(
    "tidemill",
    deadline=None,
    derandomize=os.environ.get("TIDEMILL_FUZZ") != "1",
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tidemill")

REQUIRE_ALL = os.environ.get("TIDEMILL_REQUIRE_ALL") == "1"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a real PostgreSQL server, started for this process."""
    with _left_out_if_missing(), parts.postgres() as address:
        yield address


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database, this test's own."""
    with parts.postgres_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The http address of an S3 endpoint, started for this process."""
    with _left_out_if_missing(), parts.s3() as address:
        yield address


@pytest.fixture
def s3_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The s3:// URL of an empty bucket, this test's own; the environment tells any client how to reach it."""
    environment = {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{parts.s3_bucket(s3_endpoint)}"


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share; what is written there has one name for one content."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def build_environments(shared_folder: Path) -> Path:
    """A folder that keeps the environments of deployed builds, which take seconds to make."""
    folder = shared_folder / "deployed"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def image_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps the images of builds, whose layers take seconds to write."""
    return tmp_path_factory.mktemp("layout")


@pytest.fixture(scope="session")
def container_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for `parts.containers`, which keeps the images that were loaded until the last test has ended."""
    with _left_out_if_missing():
        parts.require_containers()
    folder = tmp_path_factory.mktemp("storage")
    yield folder
    with parts.containers(folder):
        pass


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium on this machine; start it with `parts.CHROMIUM_ARGUMENTS`."""
    with _left_out_if_missing():
        return parts.find_chromium()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A running Chromium; a module's own, since no asyncio loop can run beside it."""
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=parts.CHROMIUM_ARGUMENTS)
        yield running
        running.close()


@contextmanager
def _left_out_if_missing() -> Iterator[None]:
    try:
        yield
    except parts.PartMissing as missing:
        pytest.skip(f"not on this machine: {missing}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _judge(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _judge(report)
    return report


def _judge(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a skip a failure where nothing may be left out; a test that is expected to fail is no skip."""
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: left out, which TIDEMILL_REQUIRE_ALL=1 forbids: {_reason(report)}"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what each suite took and what was left out; pytest's own closing line comes after it."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[_suite(report.nodeid)] += report.duration
    if seconds:
        terminalreporter.section("suites")
    for suite, taken in sorted(seconds.items()):
        budget = BUDGETS.get(suite, BUDGET_OF_OTHERS)
        terminalreporter.line(f"{suite:16} {taken:7.1f} s of {budget} s")
        if taken > budget:
            terminalreporter.line(f"WARNING: {suite} took more than its budget", yellow=True)

    left_out = Counter(
        _reason(report) for report in terminalreporter.stats.get("skipped", []) if not hasattr(report, "wasxfail")
    )
    if left_out:
        terminalreporter.section("left out")
    for reason, times in sorted(left_out.items()):
        terminalreporter.line(f"{times:4} x {reason}", yellow=True)


def _suite(test: str) -> str:
    """The folder under tests/ that a test is in; doctests count by where they are."""
    top, *folders, _file = PurePosixPath(test.partition("::")[0]).parts or (test,)
    return folders[0] if top == "tests" and folders else top
