"""Kedro, as a library: a catalogue that keeps each result as a file, and its sequential or parallel runner."""

from typing import Any

from kedro.io import DataCatalog, SharedMemoryDataCatalog
from kedro.pipeline import node, pipeline
from kedro.runner import ParallelRunner, SequentialRunner
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.pickle import PickleDataset

from benchmarks.peers.orchestrator import work

_TRAINING = pipeline(
    [
        node(work.load, None, "frame", name="load"),
        node(work.validate, "frame", "report", name="validate"),
        node(work.split, ["frame", "report"], ["rows", "test_rows"], name="split"),
        node(work.train, "rows", "model", name="train"),
        node(work.evaluate, ["model", "test_rows"], "metrics", name="evaluate"),
        node(work.register, ["model", "metrics"], "registered", name="register"),
    ]
)


def chain(length: int, runner: Any, catalogue: Any) -> None:
    first = node(work.no_op, "state_0", "state_1", name="no_op_0")
    rest = [node(work.no_op, f"state_{i}", f"state_{i + 1}", name=f"no_op_{i}") for i in range(1, length)]
    datasets = {f"state_{i}": PickleDataset(filepath=f"data/state_{i}.pkl") for i in range(1, length + 1)}
    initial = PickleDataset(filepath="data/state_0.pkl")
    initial.save({"number": 0})
    runner().run(pipeline([first, *rest]), catalogue({"state_0": initial, **datasets}))


def train(first: str = "load") -> None:
    frames = {name: ParquetDataset(filepath=f"data/{name}.parquet") for name in ("frame", "rows", "test_rows")}
    others = ("report", "model", "metrics", "registered")
    datasets = {name: PickleDataset(filepath=f"data/{name}.pkl") for name in others}
    SequentialRunner().run(_TRAINING.from_nodes(first), DataCatalog(frames | datasets))


if __name__ == "__main__":
    chains: dict[str, work.Chain | str] = {
        "inline": lambda length: chain(length, SequentialRunner, DataCatalog),
        "processes": lambda length: chain(length, ParallelRunner, SharedMemoryDataCatalog),
    }
    # Kedro prints the nodes to resume from; a person passes them to the next run.
    work.drive(chains, train=train, resume=lambda: train("train"), count="keeps no record of executed steps")
