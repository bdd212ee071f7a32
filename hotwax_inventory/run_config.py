"""What the configs of runs have in common: choices that are named by their values, and HotWax's own spellings of parameters."""

from enum import Enum
from typing import ClassVar, TypeVar

import dagster as dg
from pydantic import model_validator

E = TypeVar("E", bound=type[Enum])


def choice(kind: E) -> E:
    """Name an enumeration by its values too: Dagster shows the name beside the field, and where it refuses a value."""
    kind.__name__ += f" ({', '.join(str(member.value) for member in kind)})"
    return kind


class HotwaxConfig(dg.Config):
    """A config in which `spellings`, {HotWax's name: ours}, are understood beside ours; each is a field of its own, too."""

    spellings: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def understood(cls, values: dict[str, object]) -> dict[str, object]:
        # what a person has emptied in the launchpad is not said
        said = {name: value for name, value in values.items() if value is not None and value != ""}
        return said | {ours: said[theirs] for theirs, ours in cls.spellings.items() if theirs in said}
