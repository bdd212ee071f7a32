"""Faults on demand: what goes wrong, where, and at which call.

A fault waits until its call comes by; the part of the simulator that serves the call takes it and misbehaves.
"""

import threading
from collections.abc import Collection
from dataclasses import asdict, dataclass

HTTP_KINDS = frozenset(
    {
        "throttled",
        "http_429",
        "http_500",
        "http_502",
        "http_503",
        "unauthorized",
        "html",
        "truncated_json",
        "reset_before",
        "reset_after",
        "delay",
        "other_version",
    }
)
MUTATION_KINDS = frozenset({"user_error", "stale_without_code"})
BULK_KINDS = frozenset(
    {
        "bulk_failed",
        "bulk_canceled",
        "bulk_expired",
        "bulk_stuck",
        "bulk_partial",
        "drop_lines",
        "duplicate_lines",
        "cut_last_line",
        "wrong_object_count",
    }
)
SFTP_KINDS = frozenset({"disconnect_at_byte", "slow", "fail", "short_read", "grow_while_reading", "wrong_size"})
WEBHOOK_KINDS = frozenset({"duplicate", "late", "lost"})
KINDS = HTTP_KINDS | MUTATION_KINDS | BULK_KINDS | SFTP_KINDS | WEBHOOK_KINDS

SFTP_KINDS_BY_PLACE = {
    "sftp.open": frozenset({"fail", "slow"}),
    "sftp.read": SFTP_KINDS,
    "sftp.rename": frozenset({"fail", "slow"}),
    "sftp.listdir": frozenset({"fail", "slow", "wrong_size"}),
    "sftp.stat": frozenset({"fail", "slow", "wrong_size"}),
}

KINDS_BY_PLACE = {
    **SFTP_KINDS_BY_PLACE,
    "webhooks": WEBHOOK_KINDS,
    **dict.fromkeys(("staged", "results", "oauth"), HTTP_KINDS - {"throttled", "other_version"}),
    **dict.fromkeys(
        ("inventoryAdjustQuantities", "inventorySetQuantities", "inventoryActivate"), HTTP_KINDS | MUTATION_KINDS
    ),
    **dict.fromkeys(("bulkOperationRunQuery", "bulkOperationRunMutation"), HTTP_KINDS | BULK_KINDS),
}

FaultValue = int | float | str | None


@dataclass(frozen=True)
class Fault:
    """One misbehaviour.

    `where` is a root field's name, `staged`, `results`, `oauth`, `webhooks` or a key of SFTP_KINDS_BY_PLACE (`sftp.read` counts
    files opened for reading, not packets). It strikes at the `at_call`-th matching call from now and at the `times - 1`
    calls after it; `at_call` 0 strikes at every one until removed. `only` narrows it to calls whose shop id or remote
    path contains that text. What `value` means depends on the kind: seconds, bytes, lines, an error code, a version.
    """

    where: str
    kind: str
    at_call: int = 1
    times: int = 1
    value: FaultValue = None
    only: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Fault kind {self.kind!r} is unknown. Known kinds: {', '.join(sorted(KINDS))}.")
        if self.where.startswith("sftp.") and self.where not in SFTP_KINDS_BY_PLACE:
            raise ValueError(f"Fault place {self.where!r} is unknown. Known: {', '.join(SFTP_KINDS_BY_PLACE)}.")
        # any other name is a root field that only reads or keeps subscriptions
        possible = KINDS_BY_PLACE.get(self.where, HTTP_KINDS)
        if self.kind not in possible:
            raise ValueError(
                f"Fault {self.kind!r} cannot happen at {self.where}. Possible: {', '.join(sorted(possible))}."
            )
        if self.at_call < 0 or self.times < 1:
            raise ValueError("A fault needs at_call >= 0 and times >= 1.")

    def number(self, default: float) -> float:
        """The value as a number, or the kind's default."""
        return default if self.value is None else float(self.value)


class Faults:
    """The faults that wait, safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Fault, int]] = []

    def add(self, fault: Fault) -> None:
        """Let `fault` wait for its call, counted from now."""
        with self._lock:
            self._waiting.append((fault, 0))

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> list[dict[str, FaultValue]]:
        """The faults that have not used up their calls, with the number of matching calls seen so far."""
        with self._lock:
            return [{**asdict(fault), "seen": seen} for fault, seen in self._waiting]

    def take(self, where: str, kinds: Collection[str], subject: str = "") -> Fault | None:
        """Count one call at `where`; the fault of one of `kinds` that strikes it, the oldest when there are several."""
        struck = None
        with self._lock:
            kept: list[tuple[Fault, int]] = []
            for fault, seen in self._waiting:
                matches = fault.where == where and fault.kind in kinds and (fault.only is None or fault.only in subject)
                if matches and struck is None:
                    seen += 1
                    if fault.at_call == 0 or fault.at_call <= seen:
                        struck = fault
                elif matches:
                    seen = min(seen + 1, max(fault.at_call - 1, 0))
                if fault.at_call == 0 or seen < fault.at_call + fault.times - 1:
                    kept.append((fault, seen))
            self._waiting = kept
        return struck
