"""Conformance suite of targets: workloads start once, share a port while one replaces the other, and end wholly."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from tidemill.delivery.http_client import is_healthy
from tidemill.delivery.target import Observation, OpenRuntime, Target, Workload

_SECONDS = 300.0
_POLL_SECONDS = 0.1
_ORDER = ("absent", "starting", "ready", "public")


class TargetSuite:
    """Subclass it and define `opener`, `workload` and `runtime`.

    ::

        class TestMyTarget(TargetSuite):
            @pytest.fixture
            def opener(self, tmp_path):
                return partial(MyTarget, tmp_path)

            @pytest.fixture
            def workload(self, tmp_path):
                return Workload(deployment="first", environment="test", workspace=tmp_path, ...)

            @pytest.fixture
            def runtime(self):
                return partial(Runtime, python=..., project=...)
    """

    @pytest.fixture
    def opener(self) -> Callable[[], Target]:
        """Return a function that opens the same target; nothing runs there at first."""
        raise NotImplementedError("define the fixture `opener`")

    @pytest.fixture
    def workload(self) -> Workload:
        """A workload that becomes healthy, with a free port, of a real build."""
        raise NotImplementedError("define the fixture `workload`")

    @pytest.fixture
    def runtime(self) -> OpenRuntime:
        """Return the files of the build on this machine."""
        raise NotImplementedError("define the fixture `runtime`")

    @pytest.fixture
    def target(self, opener: Callable[[], Target], workload: Workload) -> Iterator[Target]:
        target = opener()
        yield target
        for deployment in target.list_running(workload.environment):
            target.stop(workload.environment, deployment)

    def test_what_was_never_started_is_absent(self, target: Target, workload: Workload) -> None:
        assert target.observe(workload) == Observation(state="absent")
        assert target.list_running(workload.environment) == []
        target.stop(workload.environment, workload.deployment)
        assert target.observe(workload).state == "absent"

    def test_the_machine_of_a_workload_has_what_the_build_needs(
        self, target: Target, workload: Workload, runtime: OpenRuntime
    ) -> None:
        facts = target.prepare(workload, runtime)
        assert facts.error == ""
        assert facts.python
        assert "msgspec" in facts.packages
        assert facts.memory_mb > 0

    def test_a_workload_starts_once_and_ends_wholly(
        self, target: Target, opener: Callable[[], Target], workload: Workload, runtime: OpenRuntime
    ) -> None:
        """Two starts at once, and a third one later, start one process; every opened target sees the same."""
        with ThreadPoolExecutor(2) as starters:
            list(starters.map(lambda each: each.start(workload, runtime), (target, opener())))
        seen = wait_for(target, workload, "ready")
        assert seen.public == ""
        assert is_healthy(seen.address)
        target.start(workload, runtime)
        again = opener()
        assert again.observe(workload) == seen
        assert again.list_running(workload.environment) == [workload.deployment]
        assert again.list_running("elsewhere") == []

        again.activate(workload)
        public = wait_for(target, workload, "public")
        assert is_healthy(public.public)
        again.activate(workload)
        target.start(workload, runtime)
        assert target.observe(workload) == public

        again.stop(workload.environment, workload.deployment)
        assert target.observe(workload).state == "absent"
        assert target.list_running(workload.environment) == []
        assert not is_healthy(public.public)
        assert not is_healthy(seen.address)
        target.stop(workload.environment, workload.deployment)

        target.start(workload, runtime)
        assert _ORDER.index(target.observe(workload).state) >= _ORDER.index("starting")
        target.stop(workload.environment, workload.deployment)
        assert target.observe(workload).state == "absent"

    def test_the_next_workload_replaces_the_present_one_without_a_refused_request(
        self, target: Target, workload: Workload, runtime: OpenRuntime
    ) -> None:
        following = replace(workload, deployment=f"{workload.deployment}-2")
        target.start(workload, runtime)
        wait_for(target, workload, "ready")
        target.activate(workload)
        address = wait_for(target, workload, "public").public
        with Asking(address) as asking:
            target.start(following, runtime)
            wait_for(target, following, "ready")
            assert sorted(target.list_running(workload.environment)) == [workload.deployment, following.deployment]
            target.activate(following)
            assert wait_for(target, following, "public").public == address
            target.stop(workload.environment, workload.deployment)
            asking.wait_for(asking.count + 20)
        assert target.list_running(workload.environment) == [following.deployment]
        # A connection in the queue of a socket that closes is reset by the kernel.
        assert asking.failures <= 1

    def test_a_workload_that_ends_at_once_is_absent_with_its_problem(
        self, target: Target, workload: Workload, runtime: OpenRuntime
    ) -> None:
        variables = {"TIDEMILL_LEDGER": "nonsense://nowhere"}
        failing = replace(workload, settings=replace(workload.settings, variables=variables))
        target.start(failing, runtime)
        assert "opens nonsense: URLs" in wait_for(target, failing, "absent").problem
        assert target.list_running(workload.environment) == []


def wait_for(target: Target, workload: Workload, state: str) -> Observation:
    """Observe a workload until it has a state; it never goes back in the order of the states before."""
    deadline = time.monotonic() + _SECONDS
    seen = target.observe(workload)
    while seen.state != state:
        assert time.monotonic() < deadline, seen
        before = seen.state
        seen = target.observe(workload)
        if state != "absent":
            assert _ORDER.index(seen.state) >= _ORDER.index(before), seen
            assert not seen.problem, seen
        time.sleep(_POLL_SECONDS)
    return seen


class Asking:
    """Asks the health of an address all the time, and counts the refused requests."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.count = 0
        self.failures = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(self, count: int) -> None:
        """Wait until some number of requests was sent."""
        while self.count < count and self._thread.is_alive():
            self._stop.wait(_POLL_SECONDS)

    def _ask(self) -> None:
        while not self._stop.wait(0.01):
            self.failures += not is_healthy(self._address)
            self.count += 1
