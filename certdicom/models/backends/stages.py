"""Steps from a batch of noisy images to logits, each computed once for a batch, however many base segmenters share it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class Stage:
    """One step on the way; its last result is kept for all that follow it."""

    def __init__(self, function: Callable[[Any], Any], *, after: Stage | None) -> None:
        self._function = function
        self._after = after
        self._last: tuple[object, Any] | None = None

    def __call__(self, noisy: object) -> Any:
        last = self._last  # read once, because another thread may replace it
        if last is not None and last[0] is noisy:
            return last[1]
        result = self._function(noisy if self._after is None else self._after(noisy))
        self._last = noisy, result
        return result


class Stages(Generic[Function]):
    """A backend's networks and stages: one of each. `around`: what every step is called in, as a mode of a library."""

    def __init__(self, *, around: Callable[[Callable[[Any], Any]], Callable[[Any], Any]] = lambda function: function) -> None:
        self._around = around
        self._loaded: dict[Hashable, Function] = {}
        self._stages: dict[Hashable, Stage] = {}

    def network(self, key: Hashable, load: Callable[[], Function]) -> Function:
        """The network of that key, loaded on the first call."""
        if key not in self._loaded:
            self._loaded[key] = load()
        return self._loaded[key]

    def stage(self, function: Callable[[Any], Any], *, after: Stage | None) -> Stage:
        """The one stage with this function there."""
        return self._stages.setdefault((function, after), Stage(self._around(function), after=after))
