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
    """A placeholder for an output of a step while a pipeline is traced."""

    __slots__ = ("node", "output")

    def __init__(self, node: str, output: str) -> None:
        self.node = node
        self.output = output

    def __repr__(self) -> str:
        return f"<{self.output} of {self.node}>"

    def _unknown(self, *_: object) -> Any:
        raise ConfigurationError(
            f"the pipeline uses the value of step {self.node!r} before the step has run",
            "compute inside a step, or use a parameter of the pipeline",
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

    A call inside a pipeline function records an edge; a call anywhere else runs the function.
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
        """Pickle the step as the name of its module attribute, so that another process imports it."""
        if "<locals>" in self.__qualname__:
            raise AttributeError(f"{self.__qualname__} is defined inside a function")
        return _load_step, (self.__module__, self.__qualname__)

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @cached_property
    def hints(self) -> dict[str, Any]:
        """Return the types of the parameters and of the return value."""
        try:
            return get_type_hints(self.function)
        except NameError as unresolved:
            raise ConfigurationError(
                f"step {self.name!r}: {unresolved}", "import the types of its annotations at run time"
            ) from None

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the outputs: `output`, or `output0`, `output1`, … for the members of a returned tuple."""
        returned = self.hints.get("return")
        if get_origin(returned) is tuple and Ellipsis not in get_args(returned):
            return tuple(f"output{index}" for index in range(len(get_args(returned))))
        return ("output",)

    def output_type(self, output: str) -> Any:
        """Return the type of an output."""
        hint = self.hints.get("return", Any)
        return get_args(hint)[self.outputs.index(output)] if len(self.outputs) > 1 else hint

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        graph = _open_graph.get()
        if graph is None:
            return self.function(*args, **kwargs)
        return graph.add(self, args, kwargs)  # type: ignore[no-any-return]  # a Ref replaces R while tracing

    def map(self, items: Any, /, **fixed: Any) -> list[R]:
        """Call the step for each member of a list, in parallel if the engine supports it; return the list of results.

        `items` is the argument of the first parameter that is not in `fixed`. Inside a pipeline it can be the value of
        a step: the number of calls is then known only in the run. Each call has its own record and its own cache entry.

        >>> step(abs_ := lambda number: number * 2).map([1, 2])
        [2, 4]
        """
        over = next((name for name in self.signature.parameters if name not in fixed), "")
        if not over:
            raise ConfigurationError(
                f"step {self.name!r} cannot map: every parameter has a fixed value",
                "remove the parameter that varies from map(…)",
            )
        graph = _open_graph.get()
        if graph is None:
            return [self.function(**{over: item}, **fixed) for item in items]
        if not isinstance(items, Ref):
            return [graph.add(self, (), {over: item, **fixed}) for item in items]
        return graph.add(self, (), {over: items, **fixed}, mapped_parameter=over)  # type: ignore[no-any-return]


def _load_step(module: str, name: str) -> Any:
    return attrgetter(name)(import_module(module))


class Node:
    """A call of a step: `inputs` maps parameters to Refs or to plain values.

    If `mapped_parameter` is not empty, the step runs once for each member of the list that this parameter gets.
    """

    __slots__ = ("inputs", "mapped_parameter", "name", "step")

    def __init__(self, name: str, step: Step[Any], inputs: dict[str, Any], mapped_parameter: str = "") -> None:
        self.name = name
        self.step = step
        self.inputs = inputs
        self.mapped_parameter = mapped_parameter

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the nodes whose values it uses, without duplicates."""
        names = (ref.node for value in self.inputs.values() for ref in refs(value))
        return tuple(dict.fromkeys(names))


def refs(value: Any) -> Iterator[Ref]:
    """Iterate over the Refs in an input: the input itself, or members of a list."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | tuple):
        yield from (member for member in value if isinstance(member, Ref))


def contains_refs(value: Any) -> bool:
    """Return whether an input is the value of a step, or a list that contains one."""
    return next(refs(value), None) is not None


class Graph:
    """The DAG of a pipeline with its parameters; the nodes are in an order in which they can run."""

    def __init__(self, pipeline: str, params: Mapping[str, Any]) -> None:
        self.pipeline = pipeline
        self.params = dict(params)
        self.nodes: dict[str, Node] = {}
        self._calls: Counter[str] = Counter()

    def add(self, step: Step[Any], args: tuple[Any, ...], kwargs: dict[str, Any], mapped_parameter: str = "") -> Any:
        """Record a call and return the Ref (or the tuple of Refs) of its output."""
        name = self._free_name(step.name)
        try:
            bound = step.signature.bind_partial(*args, **kwargs)
        except TypeError as error:
            raise ConfigurationError(
                f"pipeline {self.pipeline!r} calls step {step.name!r} with wrong arguments: {error}",
                f"use the parameters of the step: {step.signature}",
            ) from None
        self.nodes[name] = Node(name, step, bound.arguments, mapped_parameter)
        outputs = tuple(Ref(name, output) for output in step.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _free_name(self, name: str) -> str:
        self._calls[name] += 1
        return name if self._calls[name] == 1 else f"{name}-{self._calls[name]}"


class Pipeline:
    """A DAG of steps, recorded by one traced call of a plain function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """Return the parameters of the function by name."""
        return inspect.signature(self.function).parameters

    @property
    def hints(self) -> dict[str, Any]:
        """Return the types of the parameters by name."""
        return get_type_hints(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the steps; inside another pipeline, add the steps to that pipeline."""
        return self.function(*args, **kwargs)

    def trace(self, params: Mapping[str, Any]) -> Graph:
        """Return the DAG for these parameters.

        Raises
        ------
        InputError
            if a parameter is unknown, or a required parameter is missing.
        """
        known = self.parameters
        for name in params:
            if name not in known:
                raise InputError(
                    f"pipeline {self.name!r} has no parameter {name!r}",
                    f"use one of its parameters: {', '.join(known) or 'none'}",
                )
        for name, parameter in known.items():
            if parameter.default is parameter.empty and name not in params:
                raise InputError(f"pipeline {self.name!r} needs the parameter {name!r}", f"add --param {name}=VALUE")
        defaults = {name: known[name].default for name in known if name not in params}
        graph = Graph(self.name, {**params, **defaults})
        token = _open_graph.set(graph)
        try:
            self.function(**params)
        except RecursionError:
            raise ConfigurationError(
                f"pipeline {self.name!r} calls itself", "call only steps and other pipelines"
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
    """Define a function as a step of pipelines.

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
    """Define a function that calls steps as a pipeline.

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
