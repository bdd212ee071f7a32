"""Multipart forms with one big file, read from disk without holding the file in memory."""

import mmap
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(rb'\bname="([^"]*)"')
FILENAME = re.compile(rb'\bfilename="')
COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Form:
    """The fields of a form, and the name of its last part; the file's content lies where it was asked to."""

    fields: dict[str, str]
    last_part: str | None


async def save(body: AsyncIterator[bytes], raw: Path) -> None:
    """Write a request's body to a file."""
    with raw.open("wb") as file:
        async for chunk in body:
            file.write(chunk)


def read_form(raw: Path, content_type: str, file: Path) -> Form:
    """Take the form in `raw` apart and write its file part to `file`; ValueError when it is no such form."""
    boundary = re.search(r'boundary="?([^";]+)"?', content_type)
    if boundary is None or raw.stat().st_size == 0:
        raise ValueError("The request is no multipart form.")
    mark = b"--" + boundary[1].encode()
    fields: dict[str, str] = {}
    last_part = None
    file.touch()
    with raw.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(mark)
        while start >= 0 and content[start + len(mark) : start + len(mark) + 2] != b"--":
            head_end = content.find(b"\r\n\r\n", start)
            end = content.find(b"\r\n" + mark, head_end + 2)
            name = NAME.search(content, start, head_end) if head_end >= 0 else None
            if end < 0 or name is None:
                raise ValueError("The multipart form is cut off.")
            last_part = name[1].decode()
            if FILENAME.search(content, start, head_end):
                _copy(content, head_end + 4, end, file)
            else:
                fields[last_part] = content[head_end + 4 : end].decode()
            start = end + 2
    return Form(fields, last_part)


def _copy(content: mmap.mmap, start: int, end: int, file: Path) -> None:
    with file.open("wb") as target:
        for place in range(start, end, COPY_BYTES):
            target.write(content[place : min(place + COPY_BYTES, end)])
