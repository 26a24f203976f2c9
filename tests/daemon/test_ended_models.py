"""The service reports the end of a model as an event, without a daemon."""

from pathlib import Path

from tests.daemon.kit import kit
from tests.serving.kit import until
from tidemill.daemon.listening import Listener
from tidemill.serving.fenced import Incident


def test_the_end_of_a_model_is_an_event_and_the_same_one_only_once(tmp_path: Path) -> None:
    session = kit(tmp_path)
    books = session.workspace.ledger
    listener = Listener(session, every=3600)
    listener.start()
    try:
        hung = Incident(release="late/3", kind="timeout", reason="did not answer within 10 s")
        for incident in (hung, hung, Incident(release="late/3", kind="memory", reason="used too much"), hung):
            listener.report(incident)
        until(lambda: len(books.events.find(kind="model.ended")) == 2)
    finally:
        listener.stop()
    events = books.events.find(kind="model.ended")
    assert [event.subject for event in events] == ["late/3", "late/3"]
    assert events[0].payload == {
        "model": "late",
        "kind": "timeout",
        "reason": "its process was ended: it did not answer within 10 s",
    }
