"""Choices in the config of a run."""

from enum import Enum
from typing import TypeVar

E = TypeVar("E", bound=type[Enum])


def choice(kind: E) -> E:
    """Name an enumeration by its values too: Dagster shows the name beside the field, and where it refuses a value."""
    kind.__name__ += f" ({', '.join(str(member.value) for member in kind)})"
    return kind
