"""Whether the process of a run lives: it holds a lock for as long as it does, which the system lets go however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from hotwax_inventory import settings


def take(run_id: str) -> FileLock:
    """Hold the lock of this process's run."""
    path = _folder() / f"{run_id}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    with suppress(Timeout):  # another process of the run has it
        lock.acquire(timeout=0)
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
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # who gives it back removes it first
        yield path.exists()
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _folder() -> Path:
    return settings.home() / "runs"
