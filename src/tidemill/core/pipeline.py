"""Step and Pipeline: plain typed functions, and the DAG that calling them inside a pipeline records."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import timedelta
from functools import cached_property
from importlib import import_module
from operator import attrgetter
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints, overload

from tidemill.clock import DurationText, parse_duration
from tidemill.errors import ConfigurationError, InputError

R = TypeVar("R")

_open_graph: ContextVar["Graph | None"] = ContextVar("open_graph", default=None)


class Ref:
    """The value that a step will give: it stands for it while a pipeline is traced."""

    __slots__ = ("node", "output")

    def __init__(self, node: str, output: str) -> None:
        self.node = node
        self.output = output

    def __repr__(self) -> str:
        return f"<{self.output} of {self.node}>"

    def _unknown(self, *_: object) -> Any:
        raise ConfigurationError(
            f"the pipeline uses the value of step {self.node!r} before it is known",
            "do the computation inside a step, or decide on a parameter of the pipeline",
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._unknown()

    __bool__ = __iter__ = __len__ = __getitem__ = __contains__ = __call__ = __str__ = __format__ = _unknown
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _unknown
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _unknown
    __neg__ = __invert__ = __and__ = __or__ = __int__ = __float__ = __index__ = _unknown
    __hash__ = object.__hash__


class Step(Generic[R]):
    """A plain typed function from artifacts to artifacts.

    Inside a pipeline function a call records an edge; anywhere else it just runs the function.
    """

    def __init__(
        self,
        function: Callable[..., R],
        *,
        retries: int = 0,
        cache: bool = True,
        transient: bool = False,
        timeout: DurationText = "",
        retention: DurationText = "",
    ) -> None:
        self.function = function
        self.name = function.__name__
        self.retries = retries
        self.cache = cache
        self.transient = transient
        self.timeout: timedelta | None = parse_duration(timeout) if timeout else None
        self.retention: timedelta | None = parse_duration(retention) if retention else None
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is what its module has under its name there."""
        if "<locals>" in self.__qualname__:
            raise AttributeError(f"{self.__qualname__} is defined inside a function")
        return _step_of, (self.__module__, self.__qualname__)

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The types of its parameters and of what it returns."""
        try:
            return get_type_hints(self.function)
        except NameError as unresolved:
            raise ConfigurationError(
                f"step {self.name!r}: {unresolved}", "import the types of its annotations at run time"
            ) from None

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it gives: one `output`, or one for each member of a returned tuple."""
        returned = self.hints.get("return")
        if get_origin(returned) is tuple and Ellipsis not in get_args(returned):
            return tuple(f"output{place}" for place in range(len(get_args(returned))))
        return ("output",)

    def promised(self, output: str) -> Any:
        """The type of one of its outputs."""
        hint = self.hints.get("return", Any)
        return get_args(hint)[self.outputs.index(output)] if len(self.outputs) > 1 else hint

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        graph = _open_graph.get()
        if graph is None:
            return self.function(*args, **kwargs)
        return graph.add(self, args, kwargs)  # type: ignore[no-any-return]  # a Ref stands in for R while tracing

    def map(self, items: Any, /, **fixed: Any) -> list[R]:
        """The step on each member of a list, side by side where the engine can; the list of what it gives.

        `items` goes to the first parameter that `fixed` leaves out. Inside a pipeline it may be the value of a step:
        how many calls there are is then known only in the run, and each has its own place in the ledger and the cache.

        >>> step(abs_ := lambda number: number * 2).map([1, 2])
        [2, 4]
        """
        over = next((name for name in self.signature.parameters if name not in fixed), "")
        if not over:
            raise ConfigurationError(
                f"step {self.name!r} has no parameter left to map over", "leave out of map(…) the one that varies"
            )
        graph = _open_graph.get()
        if graph is None:
            return [self.function(**{over: item}, **fixed) for item in items]
        if not isinstance(items, Ref):
            return [graph.add(self, (), {over: item, **fixed}) for item in items]
        return graph.add(self, (), {over: items, **fixed}, over=over)  # type: ignore[no-any-return]


def _step_of(module: str, name: str) -> Any:
    return attrgetter(name)(import_module(module))


class Node:
    """One call of a step: `inputs` maps its parameters to Refs or to plain values; `over` is the one it maps over."""

    __slots__ = ("inputs", "name", "over", "step")

    def __init__(self, name: str, step: Step[Any], inputs: dict[str, Any], over: str = "") -> None:
        self.name = name
        self.step = step
        self.inputs = inputs
        self.over = over

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the nodes whose values it takes, each once."""
        found = (ref.node for value in self.inputs.values() for ref in refs(value))
        return tuple(dict.fromkeys(found))


def refs(value: Any) -> Iterator[Ref]:
    """The Refs in an input: the input itself, or members of a list."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | tuple):
        yield from (member for member in value if isinstance(member, Ref))


def contains_refs(value: Any) -> bool:
    """Whether an input is the value of a step, or a list with some."""
    return next(refs(value), None) is not None


class Graph:
    """The DAG of one pipeline with its parameters: nodes in an order in which they can run."""

    def __init__(self, pipeline: str, params: Mapping[str, Any]) -> None:
        self.pipeline = pipeline
        self.params = dict(params)
        self.nodes: dict[str, Node] = {}
        self._calls: Counter[str] = Counter()

    def add(self, step: Step[Any], args: tuple[Any, ...], kwargs: dict[str, Any], over: str = "") -> Any:
        """Record a call and return the Ref (or the tuple of Refs) of what it will give."""
        name = self._free_name(step.name)
        try:
            bound = step.signature.bind_partial(*args, **kwargs)
        except TypeError as wrong:
            raise ConfigurationError(
                f"pipeline {self.pipeline!r} calls step {step.name!r} wrongly: {wrong}",
                f"its parameters are {step.signature}",
            ) from None
        self.nodes[name] = Node(name, step, bound.arguments, over)
        given = tuple(Ref(name, output) for output in step.outputs)
        return given[0] if len(given) == 1 else given

    def _free_name(self, name: str) -> str:
        self._calls[name] += 1
        return name if self._calls[name] == 1 else f"{name}-{self._calls[name]}"


class Pipeline:
    """Steps joined into a DAG by one traced call of a plain function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function).parameters

    @property
    def hints(self) -> dict[str, Any]:
        return get_type_hints(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Inside another pipeline its steps become part of that one; elsewhere the steps just run."""
        return self.function(*args, **kwargs)

    def trace(self, params: Mapping[str, Any]) -> Graph:
        """The DAG for these parameters.

        Raises
        ------
        InputError
            for a parameter that the pipeline does not have, or that is missing.
        """
        known = self.parameters
        for name in params:
            if name not in known:
                raise InputError(
                    f"pipeline {self.name!r} has no parameter {name!r}",
                    f"its parameters are: {', '.join(known) or 'none'}",
                )
        for name, parameter in known.items():
            if parameter.default is parameter.empty and name not in params:
                raise InputError(
                    f"pipeline {self.name!r} needs the parameter {name!r}", f"give it: --param {name}=VALUE"
                )
        defaults = {name: known[name].default for name in known if name not in params}
        graph = Graph(self.name, {**params, **defaults})
        token = _open_graph.set(graph)
        try:
            self.function(**params)
        except RecursionError:
            raise ConfigurationError(
                f"pipeline {self.name!r} has a cycle: it calls itself", "let it call steps, or other pipelines"
            ) from None
        finally:
            _open_graph.reset(token)
        return graph


@overload
def step(function: Callable[..., R], /) -> Step[R]: ...
@overload
def step(
    *,
    retries: int = 0,
    cache: bool = True,
    transient: bool = False,
    timeout: DurationText = "",
    retention: DurationText = "",
) -> Callable[[Callable[..., R]], Step[R]]: ...
def step(
    function: Callable[..., R] | None = None,
    /,
    *,
    retries: int = 0,
    cache: bool = True,
    transient: bool = False,
    timeout: DurationText = "",
    retention: DurationText = "",
) -> Step[R] | Callable[[Callable[..., R]], Step[R]]:
    """Make a function a step of pipelines.

    Parameters
    ----------
    retries
        How often the step runs again after a `Transient`, `ConnectionError` or `TimeoutError`. The pauses get longer.
    cache
        Whether a run may use the result of an earlier run with the same code, inputs and parameters.
    transient
        Whether the outputs are not stored, but computed again when a step needs them: for large, cheap results.
    timeout
        The most time for one attempt, such as `"30m"`; a longer attempt fails.
    retention
        How long the outputs are kept at least, such as `"30d"`. The default is `[retention]` in `tidemill.toml`.

    Examples
    --------
    >>> @step
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> double(21)
    42
    """
    if function is not None:
        return Step(function)
    return lambda wrapped: Step(
        wrapped, retries=retries, cache=cache, transient=transient, timeout=timeout, retention=retention
    )


def pipeline(function: Callable[..., Any], /) -> Pipeline:
    """Make a function that calls steps a pipeline.

    The function is called once before a run, to record which step needs the result of which. The parameters of the
    function are the parameters of the pipeline. Parameters of the types `ModelPolicy`, `FeatureSet` and `datetime` are
    filled in from the project if the caller does not set them.

    Examples
    --------
    >>> @step
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> @pipeline
    ... def fourfold(number: int) -> None:
    ...     double(double(number))
    >>> list(fourfold.trace({"number": 5}).nodes)
    ['double', 'double-2']
    """
    return Pipeline(function)
