"""Each problem is told to each receiver once, and again when it lasts. What was told is kept in the sensor's cursor: a restart
repeats nothing, and what a receiver did not take is offered again at the next tick."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hotwax_inventory.alerts.problems import Problem
from hotwax_inventory.alerts.receivers import Alert, NotDelivered, scrubbed
from hotwax_inventory.settings import SettingError

HOUR_SECONDS = 3600
# An hour less than a day, so that what is found at the same time of day is told each day.
DAY_SECONDS = 23 * HOUR_SECONDS
# The record of a run's end may be seen this much later: clocks and commits of several hosts.
OVERLAP_SECONDS = 300
# A tick must end within 60 seconds: of each of two receivers this, and the last offer, which to a mail server may take another 30
# seconds (to reach it, to be greeted, and the mail), to a webhook 10.
BUDGET_SECONDS = 5
MOST_TEXTS = 5

Receiver = Callable[[Alert], None]


@dataclass
class Told:
    """What one receiver has been told: events from `since` on that are done with, and when it last heard of each kind."""

    since: float
    done: set[str] = field(default_factory=set)
    kinds: dict[str, float] = field(default_factory=dict)

    def is_open(self, problem: Problem) -> bool:
        return problem.event is None or (problem.at >= self.since and problem.event not in self.done)


class Memory:
    """The cursor of a sensor. A receiver that is new hears of the last hour."""

    def __init__(self, cursor: str | None, names: Iterable[str]) -> None:
        self.now = time.time()
        kept: dict[str, Any] = json.loads(cursor or "{}")
        new = {"since": self.now - HOUR_SECONDS, "done": [], "kinds": {}}
        self.told: dict[str, Told] = {}
        for name in names:
            told = kept.get(name, new)
            # what was told later than now was told by a clock that was ahead
            since = told["since"] if told["since"] <= self.now else new["since"]
            kinds = {kind: at for kind, at in told["kinds"].items() if at <= self.now}
            self.told[name] = Told(since, set(told["done"]), kinds)

    @property
    def since(self) -> datetime:
        """From when on events must be looked for."""
        return datetime.fromtimestamp(min((told.since for told in self.told.values()), default=self.now), UTC)

    def kept(self, problems: Sequence[Problem]) -> dict[str, Any]:
        """The cursor to be: what is still open stays in view, what nobody looks for any more is forgotten."""
        kept = {}
        for name, told in self.told.items():
            waiting = [problem.at for problem in problems if problem.event and told.is_open(problem)]
            since = max(told.since, min([*waiting, self.now - OVERLAP_SECONDS]))
            done = [problem.event for problem in problems if problem.event in told.done and problem.at >= since]
            kinds = {kind: at for kind, at in told.kinds.items() if at > self.now - DAY_SECONDS}
            kept[name] = {"since": since, "done": done, "kinds": kinds}
        return kept


def tell(
    problems: Sequence[Problem],
    memory: Memory,
    receivers: dict[str, Receiver],
    repeat_seconds: int,
    is_kept: bool,
) -> str:
    """Offer the problems to every receiver, each kind once in `repeat_seconds`; a sentence of what was told and what was not.

    `is_kept`: what comes within that time is told after it, together; otherwise it counts as told."""
    if not receivers:
        return "Nobody is told: set ALERT_WEBHOOK_URL, or ALERT_SMTP_URL and ALERT_EMAIL_TO."
    said = []
    for name, send in receivers.items():
        count, refusals = _offer(problems, memory.told[name], memory.now, send, repeat_seconds, is_kept)
        if count or refusals:
            said.append(f"{name}: {count} told{''.join(f'; not told: {reason}' for reason in refusals)}")
    return ". ".join(said) or "Nothing to tell."


def _offer(
    problems: Sequence[Problem], told: Told, now: float, send: Receiver, repeat_seconds: int, is_kept: bool
) -> tuple[int, list[str]]:
    """How many alerts a receiver has taken, and why it has not taken the others."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        if told.is_open(problem):
            groups.setdefault(problem.kind, []).append(problem)
    count, refusals, until = 0, [], time.monotonic() + BUDGET_SECONDS
    for kind, group in groups.items():
        is_told = told.kinds.get(kind, 0.0) > now - repeat_seconds
        if is_told and is_kept:
            continue
        if not is_told:
            if time.monotonic() > until:
                break
            try:
                send(_alert(group))
            except (NotDelivered, SettingError) as error:
                refusals.append(str(error))
                continue
            told.kinds[kind] = now
            count += 1
        told.done |= {problem.event for problem in group if problem.event}
    return count, list(dict.fromkeys(refusals))


def _alert(group: Sequence[Problem]) -> Alert:
    """One alert for problems of one kind; the newest speaks for all."""
    newest = max(group, key=lambda problem: problem.at)
    texts = list(dict.fromkeys(problem.text for problem in sorted(group, key=lambda problem: -problem.at)))
    text = "\n\n".join(texts[:MOST_TEXTS])
    if len(group) > 1:
        first = datetime.fromtimestamp(min(problem.at for problem in group), UTC)
        text = f"{len(group)} times since {first:%Y-%m-%d %H:%M} UTC. The last:\n{text}"
    fields = {name: scrubbed(value) for name, value in newest.fields.items()}
    return Alert(scrubbed(newest.title), scrubbed(text), fields)
