"""Two columns of one name in the rows of a model are refused when its features are read."""

import pytest
from msgspec.structs import replace

from tidemill.core.feature import Aggregate, Entity, FeatureView
from tidemill.core.policy import Inputs, ModelPolicy, Problem
from tidemill.core.source import Source
from tidemill.errors import ConfigurationError
from tidemill.project.feature_names import require_distinct_names

CARRIER = Entity("carrier", ("carrier_id",))
SOURCE = Source(path="rows.csv", time="risk_at", key=("risk_key",))
MODEL = ModelPolicy(
    name="m", problem=Problem(decision="", source="rows", label="risk_label"), inputs=Inputs(request=("risk_input",))
)


def view(name: str, *columns: str) -> FeatureView:
    return FeatureView(name=name, entity=CARRIER, source="s", columns=columns)


CLASHES = {
    "two views": ([view("a", "b_c"), view("a_b", "c")], "'a_b_c', which is also a feature of view 'a'"),
    "one view": (
        [replace(view("a", "x"), aggregates=(Aggregate(name="x", column="x", statistic="mean", window="1d"),))],
        "'a_x', which is also a feature of view 'a'",
    ),
    "the label": ([view("risk", "label")], "also the label"),
    "an input": ([view("risk", "input")], "also an input of the request"),
    "a key": ([view("carrier", "id")], "also a key of view 'carrier'"),
    "the key of the source": ([view("risk", "key")], "also a key of the source"),
    "the time": ([view("risk", "at")], "also the event time"),
    "ours": ([view("_tidemill", "time")], "are reserved"),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_a_feature_with_the_name_of_another_column_is_refused(clash: str) -> None:
    views, message = CLASHES[clash]
    with pytest.raises(ConfigurationError, match=message) as refused:
        require_distinct_names(MODEL, views, SOURCE)
    assert "rename the view" in refused.value.cure
    renamed = [replace(one, name=f"other{number}") for number, one in enumerate(views)]
    if clash != "one view":
        require_distinct_names(MODEL, renamed, SOURCE)
