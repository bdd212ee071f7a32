"""How far a long piece of work has come: in the run's log, and so in the terminal; and how long each part of a run took."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

EVERY_SECONDS = 10.0


class Seconds:
    """How long the parts of a run took: a number for each on the asset page, which Dagster draws over time."""

    def __init__(self) -> None:
        self._taken: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what is done within to a part."""
        started = time.monotonic()
        yield
        self._taken[part] += time.monotonic() - started

    @property
    def metadata(self) -> dict[str, float]:
        return {f"seconds_{part}": round(seconds, 2) for part, seconds in self._taken.items()}


class Progress:
    """Says how far the work has come, a line in EVERY_SECONDS at most; work that is shorter says nothing.

    `what` begins the line, `total` may be unknown, and `unit` is what is counted; of bytes, MB are shown."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._started = self._said = time.monotonic()

    def reached(self, done: int) -> None:
        """Note that so much is done."""
        now = time.monotonic()
        if now - self._said < EVERY_SECONDS:
            return
        self._said = now
        text = f"{self._what}: {self._shown(done)}"
        if self._total:
            text += f" of {self._shown(self._total)} {self._named} ({100 * done // self._total} %)"
            if done:
                text += f", {_duration((now - self._started) * (self._total - done) / done)} left"
        else:
            text += f" {self._named} so far"
        dg.get_dagster_logger().info(f"{text}.")

    @property
    def _named(self) -> str:
        return "MB" if self._unit == "bytes" else self._unit

    def _shown(self, count: int) -> str:
        return f"{count / 1e6:,.0f}" if self._unit == "bytes" else f"{count:,}"


def _duration(seconds: float) -> str:
    return f"about {seconds / 60:,.0f} minutes" if seconds >= 120 else f"about {seconds:.0f} seconds"
