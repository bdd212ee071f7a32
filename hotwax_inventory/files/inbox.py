"""The webhook inbox: events that the receiver has acknowledged and that no import has committed yet.

A file has the events of one commit, one a line, and is whole or not there: written beside, synced, renamed, the folder synced. An
import takes all files into one landed file, and removes them after its commit. It knows events by their ids, so that files which
a killed run has left are no second copy. A file that was damaged since is kept beside; what is left of it is imported."""

import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from hotwax_inventory import settings

CONFIG_ID = "SHOPIFY_INV_WEBHOOK"
# Shopify repeats a delivery for four hours, and may deliver up to a day late (Shopify reference 8.4).
REMEMBERED_DAYS = 2
MOST_REMEMBERED = 200_000
BATCH_FILES = 10_000
BATCH_BYTES = 64 << 20

_numbers = itertools.count()


@dataclass(frozen=True)
class Event:
    """A webhook as it came; times in ISO 8601. `body` is what was signed."""

    shop_id: str
    webhook_id: str
    triggered_at: str | None
    received_at: str
    body: str


@dataclass(frozen=True)
class Batch:
    """Files of the inbox as one landed file; `damaged` are those with lines that are no event (which are not landed)."""

    files: tuple[Path, ...]
    damaged: tuple[Path, ...]
    landed: Path
    sha256: str
    size_bytes: int


def write(events: Sequence[Event]) -> None:
    """Keep events: when this returns they are on disk. Raises OSError; then none of them is there."""
    folder = inbox()
    # in order of time; two receivers never mean the same name
    path = folder / f"{time.time_ns():020}-{os.getpid()}-{next(_numbers):06}.jsonl"
    temporary = path.with_suffix(".writing")
    try:
        _keep(b"".join(json.dumps(asdict(event)).encode() + b"\n" for event in events), temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise


def waiting() -> list[Path]:
    """The files that no import has removed, oldest first."""
    return sorted(inbox().glob("*.jsonl"))


def batches() -> Iterator[Batch]:
    """What is waiting now, landed in as few files as BATCH_FILES and BATCH_BYTES allow, for one import each."""
    contents: dict[Path, bytes] = {}
    size = 0
    for path in waiting():
        contents[path] = _content(path)
        size += len(contents[path])
        if len(contents) == BATCH_FILES or size > BATCH_BYTES:
            yield _landed(contents)
            contents, size = {}, 0
    if contents:
        yield _landed(contents)


def remove(batch: Batch) -> None:
    """Take the files of a committed batch out of the inbox; damaged ones stay under another name."""
    for path in batch.damaged:
        with contextlib.suppress(FileNotFoundError):  # another import was here
            path.rename(path.with_suffix(".damaged"))
    for path in batch.files:
        path.unlink(missing_ok=True)


def remove_leftovers() -> None:
    """Remove what killed receivers and imports left half written."""
    half_written = (*inbox().glob("*.writing"), *settings.landing_folder(CONFIG_ID).glob("*.part"))
    for path in filter(settings.is_left_over, half_written):
        path.unlink(missing_ok=True)


def recent_ids() -> list[tuple[str, str]]:
    """(shop, webhook id) of the events of the last days, newest first, up to MOST_REMEMBERED: what a receiver starts with."""
    oldest = time.time() - REMEMBERED_DAYS * 86_400
    landed = sorted((_modified(path), path) for path in settings.landing_folder(CONFIG_ID).glob("*.jsonl"))
    newest_first = [path for modified, path in reversed(landed) if modified >= oldest]
    found: dict[tuple[str, str], None] = {}
    for path in (*reversed(waiting()), *newest_first):
        for line in _content(path).splitlines():
            if event := _event(line):
                found[event["shop_id"], event["webhook_id"]] = None
        if len(found) >= MOST_REMEMBERED:
            break
    return list(found)[:MOST_REMEMBERED]


def inbox() -> Path:
    """The folder of what is waiting."""
    return settings.folder_of_home("webhook_inbox")


def _content(path: Path) -> bytes:
    """What a file has; nothing when another import has removed it in the meantime."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _event(line: bytes) -> dict[str, str] | None:
    """The event of a line as `write` writes them; None when it is none."""
    try:
        event = json.loads(line)
        datetime.fromisoformat(event["received_at"])
    except (ValueError, KeyError, TypeError):
        return None
    is_triggered = event.get("triggered_at") is None or isinstance(event["triggered_at"], str)
    has_all = all(isinstance(event.get(name), str) for name in ("shop_id", "webhook_id", "body"))
    return event if is_triggered and has_all else None


def _modified(path: Path) -> float:
    """When a file was last written; long ago when somebody has removed it in the meantime."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _landed(contents: Mapping[Path, bytes]) -> Batch:
    lines = {path: content.splitlines(keepends=True) for path, content in contents.items()}
    damaged = tuple(path for path, found in lines.items() if not all(map(_event, found)))
    content = b"".join(line for path in lines for line in lines[path] if path not in damaged or _event(line))
    sha256 = hashlib.sha256(content).hexdigest()
    landed = settings.landing_folder(CONFIG_ID) / f"{sha256}.jsonl"
    temporary = landed.with_suffix(f".{os.getpid()}.part")
    _keep(content, temporary, landed)
    return Batch(tuple(contents), damaged, landed, sha256, len(content))


def _keep(content: bytes, temporary: Path, path: Path) -> None:
    """Write a file by way of another: when this returns it is whole on disk, and has its name."""
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
