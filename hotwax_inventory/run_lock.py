"""Whether the process of a run lives: it holds a lock for as long as it does, which the system lets go however it ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from hotwax_inventory import settings

TAKE_SECONDS = 5
# One that is younger may be about to be held.
YOUNG_SECONDS = 15


def take(run_id: str) -> FileLock:
    """Hold the lock of this process's run."""
    path = _folder() / f"{run_id}.lock"
    lock = FileLock(path, thread_local=False)
    with suppress(OSError):  # another process of the run has it, or nothing can be written, which the run will find out
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=TAKE_SECONDS)
    return lock


def give_back(lock: FileLock) -> None:
    """Let go of a lock that was taken; nothing is left of it."""
    if lock.is_locked:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def left_behind() -> Iterator[tuple[str, Path]]:
    """The ids of runs whose process ended without giving back its lock, with what is left of it."""
    for path in sorted(_folder().glob("*.lock")):
        with _is_free(path) as is_free:
            if is_free:
                yield path.stem, path


@contextmanager
def _is_free(path: Path) -> Iterator[bool]:
    """Whether nobody holds a lock; it is held meanwhile."""
    try:
        is_young = time.time() - path.stat().st_mtime < YOUNG_SECONDS
        handle = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # who gives it back removes it first
        yield path.exists() and not is_young
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _folder() -> Path:
    return settings.home() / "runs"
