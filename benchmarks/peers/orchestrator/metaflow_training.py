"""The training in the form of Metaflow: a class whose steps are methods and whose artifacts are attributes."""

from metaflow import FlowSpec, step

from benchmarks.peers.orchestrator import work


class Training(FlowSpec):
    @step
    def start(self) -> None:
        self.frame = work.load()
        self.next(self.validate)

    @step
    def validate(self) -> None:
        self.report = work.validate(self.frame)
        self.next(self.split)

    @step
    def split(self) -> None:
        self.rows, self.test_rows = work.split(self.frame, self.report)
        self.next(self.train)

    @step
    def train(self) -> None:
        self.model = work.train(self.rows)
        self.next(self.evaluate)

    @step
    def evaluate(self) -> None:
        self.metrics = work.evaluate(self.model, self.test_rows)
        self.next(self.end)

    @step
    def end(self) -> None:
        self.registered = work.register(self.model, self.metrics)


if __name__ == "__main__":
    Training()
