"""The cost bucket of a shop: every call takes points, and they come back with time."""

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Charge:
    """What one call cost; `accepted` is false when the bucket held too little, and then nothing was taken."""

    cost: int
    accepted: bool
    maximum: float
    available: int
    restore_rate: float

    def extensions(self) -> dict[str, object]:
        """The `extensions` object of the answer."""
        status = {
            "maximumAvailable": self.maximum,
            "currentlyAvailable": self.available,
            "restoreRate": self.restore_rate,
        }
        return {
            "cost": {
                "requestedQueryCost": self.cost,
                "actualQueryCost": self.cost if self.accepted else None,
                "throttleStatus": status,
            }
        }


class Bucket:
    """A leaky bucket of `maximum` points that regains `restore_rate` points a second."""

    def __init__(self, maximum: float = 2000, restore_rate: float = 100) -> None:
        self._lock = threading.Lock()
        self.maximum = maximum
        self.restore_rate = restore_rate
        self._available = maximum
        self._looked_at = time.monotonic()

    def take(self, cost: int, *, refuse: bool = False) -> Charge:
        """Take `cost` points when they are there and `refuse` is not asked for."""
        with self._lock:
            now = time.monotonic()
            restored = self._available + (now - self._looked_at) * self.restore_rate
            self._available, self._looked_at = min(self.maximum, restored), now
            accepted = not refuse and cost <= self._available
            if accepted:
                self._available -= cost
            return Charge(cost, accepted, self.maximum, int(self._available), self.restore_rate)
