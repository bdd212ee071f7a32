"""Values and tables as a person reads them: on an asset's page, where what a file says must be no markup, and in a terminal."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import dagster as dg

MOST_LINES = 20
MOST_CHARACTERS = 200
MARKUP = re.compile(r"[\\`*_<>\[\]|#~]")


def markdown_table(
    names: Sequence[str], rows: Sequence[Sequence[object]], most_lines: int = MOST_LINES, count: int | None = None
) -> dg.MarkdownMetadataValue:
    """A bounded Markdown table, or the word none; what comes from files is shown as code, so that it cannot be markup. `count`: how
    many rows there are, where `rows` are the first of them."""
    return dg.MetadataValue.md(table(names, rows, markdown_cell, most_lines, count=count) if rows else "none")


def table(
    names: Sequence[str],
    rows: Sequence[Sequence[object]],
    cell: Callable[[object], str],
    most_lines: int,
    *,
    is_aligned: bool = False,
    count: int | None = None,
) -> str:
    """A bounded Markdown table of values as `cell` renders them; `is_aligned`: to be read as it is."""
    shown = rows[:most_lines]
    lines = [[*names], *([cell(value) for value in row] for row in shown)]
    widths = [max(len(line[i]) for line in lines) if is_aligned else 0 for i in range(len(names))]
    lines.insert(1, ["-" * max(3, width) for width in widths])
    text = "\n".join(
        "| " + " | ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
    more = (len(rows) if count is None else count) - len(shown)
    return text + (f"\n\n… and {more:,} more" if more else "")


def plain_cell(value: object) -> str:
    """A value as text for the terminal: one line, without control characters."""
    match value:
        case None:
            return ""
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case UUID():
            return str(value)[:8]
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def markdown_text(text: str) -> str:
    """A sentence with names from files as Markdown, in which they are no markup."""
    return MARKUP.sub(r"\\\g<0>", text)


def markdown_cell(value: object) -> str:
    """A value as Markdown. What may come from files is shown as code, so that it cannot be markup; a run's id is a link."""
    text = plain_cell(value)
    match value:
        case int() | float() | Decimal() | datetime():
            return text
        case UUID():
            return f"[{text}](/runs/{value})"
    return "`" + text.replace("`", "'").replace("|", "¦") + "`" if text else ""
