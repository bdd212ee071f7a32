"""Texts where they would mean something else: in SQL, and in files that people open in a spreadsheet."""

from collections.abc import Iterable

# A text that begins so is worked out by spreadsheets (CWE-1236), unless it is a number. In a file for people it gets an apostrophe
# in front, which is taken off when the file comes back.
FORMULA = r"regexp_matches({0}, '^''*[=+\-@\t\r]') and try_cast({0} as double) is null"
ESCAPED = r"regexp_matches({0}, '^''+[=+\-@\t\r]')"


def without_formula(value: str) -> str:
    """SQL of a text as it may stand in a file that people open in a spreadsheet."""
    return f"if({FORMULA.format(value)}, chr(39) || {value}, {value})"


def as_it_was(value: str) -> str:
    """SQL of what a text of such a file was before."""
    return f"if({ESCAPED.format(value)}, ({value})[2:], {value})"


def sql_text(value: str) -> str:
    """A text as SQL literal, for paths and header names, which a prepared statement does not take where they stand."""
    return "'" + value.replace("'", "''") + "'"


def sql_texts(values: Iterable[str]) -> str:
    """Texts as what stands in SQL after `in`."""
    return f"({', '.join(map(sql_text, values))})"
