"""Arms get their shares, an id keeps its arm, and the draw is the same on every machine."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.route import Arm, Role, Route
from tidemill.errors import ConfigurationError
from tidemill.serving.router import assign_arms, draw_uniform

# Computed independently, with Python's integers.
PINNED = [0.8397876998931749, 0.7239191015575358]

IDS = [f"key-{number}" for number in range(30_000)]


def route(*arms: tuple[Role, float]) -> Route:
    built = tuple(
        Arm(release=f"m/{index}", version=index, package="", role=role, share=share)
        for index, (role, share) in enumerate(arms)
    )
    since = datetime(2013, 1, 1, tzinfo=UTC)
    return Route(id="r", environment="production", model="m", version=1, arms=built, since=since, reason="")


def test_challengers_get_their_shares_and_the_champion_gets_the_rest() -> None:
    indices = assign_arms(IDS, route(("champion", 0), ("challenger", 0.2), ("shadow", 0), ("challenger", 0.05)))
    counts = np.bincount(indices, minlength=4) / len(IDS)
    assert counts[1] == pytest.approx(0.2, abs=0.01)
    assert counts[3] == pytest.approx(0.05, abs=0.01)
    assert counts[0] == pytest.approx(0.75, abs=0.01)
    assert counts[2] == 0


@pytest.mark.parametrize("ids", [[str(number) for number in range(20_000)], [f"UA|{n:04}" for n in range(20_000)]])
def test_similar_keys_are_distributed_evenly(ids: list[str]) -> None:
    assert (draw_uniform(ids, "m/2") < 0.1).mean() == pytest.approx(0.1, abs=0.01)
    assert np.corrcoef(draw_uniform(ids, "m/2"), draw_uniform(ids, "m/3"))[0, 1] == pytest.approx(0, abs=0.03)


def test_a_wider_share_only_adds_keys() -> None:
    narrow = assign_arms(IDS, route(("champion", 0), ("challenger", 0.1)))
    wide = assign_arms(IDS, route(("champion", 0), ("challenger", 0.4)))
    assert (wide[narrow == 1] == 1).all()


@given(st.lists(st.text(st.characters(codec="utf-8"))), st.floats(0, 1))
def test_the_arm_of_an_id_does_not_depend_on_the_other_ids(ids: list[str], share: float) -> None:
    split = route(("champion", 0), ("challenger", share))
    together = assign_arms(ids, split)
    assert [assign_arms([name], split)[0] for name in ids] == together.tolist()


def test_the_draw_never_changes() -> None:
    assert draw_uniform(["UA|12", ""], "flights/3").tolist() == PINNED


def test_with_a_full_share_the_champion_gets_no_rows() -> None:
    assert (assign_arms(IDS, route(("champion", 0), ("challenger", 1.0))) == 1).all()


def test_a_route_without_a_champion_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no champion"):
        assign_arms(["a"], route(("challenger", 0.5)))
