"""SFTP over paramiko: list, fetch, archive; and put, for the demo."""

import contextlib
import hashlib
import os
import posixpath
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import paramiko
from paramiko import sftp_client
from paramiko.buffered_pipe import BufferedPipe, PipeTimeout

from hotwax_inventory.progress import Progress
from hotwax_inventory.settings import SftpSettings
from hotwax_inventory.sftp_errors import DiskRefused, FileChanged, SftpRefused, SftpUnavailable
from hotwax_inventory.sftp_login import logged_in

T = TypeVar("T")

# 255 KiB is the largest read that OpenSSH answers whole; 64 of them in flight keep a loopback or a WAN link busy.
REQUEST_BYTES = 261_120
SHORT_REQUEST_BYTES = 32_768
REQUESTS_IN_FLIGHT = 64
# What has arrived is hashed and written beside the reading of the rest, answer by answer, which paramiko then need not cut or join,
# and goes to disk in portions, not all at the end.
MOST_BLOCKS_WAITING = 128
SYNC_BYTES = 1 << 25
STALL_SECONDS = 60
# A server that says without a reason that it does not do something, as it may of a file that somebody has open, is asked so often.
MOST_TRIES = 3
MOST_SUFFIXES = 10_000


class _Message(paramiko.Message):
    """Names as they come: a byte that is not UTF-8 in one of them must not hide all the other files."""

    def get_text(self) -> str:
        return self.get_string().decode("utf-8", "surrogateescape")


class _Pipe(BufferedPipe):
    """What has arrived and was not read yet. A read takes all that SFTP asks for at once, and is not woken before it is there; so
    it is of no use to who takes what there is, or selects.

    paramiko's own is woken by each piece, joins the pieces one by one and moves the rest each time: a third of a download."""

    _lock: threading.Lock
    _cv: threading.Condition
    _closed: bool

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()
        self._wanted = 0

    def _buffer_tobytes(self, limit: int | None = None) -> bytes:
        return bytes(memoryview(self._buffer)[:limit])

    def feed(self, data: bytes) -> None:
        with self._lock:
            self._buffer += data
            if len(self._buffer) >= self._wanted:
                self._cv.notify_all()

    def read(self, nbytes: int, timeout: float | None = None) -> bytes:
        """So many bytes, fewer when the pipe is closed. Raises PipeTimeout when nothing has come for `timeout` seconds."""
        with self._lock:
            self._wanted = nbytes
            while (had := len(self._buffer)) < nbytes and not self._closed:
                if not self._cv.wait(timeout) and len(self._buffer) == had:
                    raise PipeTimeout
            taken = self._buffer_tobytes(nbytes)
            del self._buffer[:nbytes]
            return taken


# paramiko's listing decodes strictly, and offers no other way in
sftp_client.Message = _Message  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True)
class RemoteFile:
    """A regular file on the server. `modified_at` is in seconds since 1970, as SFTP gives it."""

    path: str
    size_bytes: int
    modified_at: int

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


class SftpSession:
    """One connection, made at first use and again after a cut, until `deadline_seconds` have passed without success."""

    def __init__(self, server: SftpSettings, deadline_seconds: int) -> None:
        self._server = server
        self._deadline_seconds = deadline_seconds
        self._client: paramiko.SFTPClient | None = None
        self._transport: paramiko.Transport | None = None

    def log_in(self) -> None:
        """Connect, where there is no connection. Raises SftpUnavailable, SftpRefused."""
        self._call(lambda _: None)

    def listing(self, directory: str) -> list[RemoteFile]:
        """The regular files of a directory, by name. A directory that does not exist has none.

        Raises SftpUnavailable; SftpRefused also where SFTP_ROOT does not exist."""

        def entries(client: paramiko.SFTPClient) -> list[RemoteFile]:
            try:
                found = list(client.listdir_iter(self._absolute(directory), read_aheads=50))
            except FileNotFoundError:
                if not _exists(client, self._server.root):
                    raise SftpRefused(
                        f"{self._server} has no directory {self._server.root}: correct SFTP_ROOT, or make it there."
                    ) from None
                return []
            return [
                RemoteFile(posixpath.join(directory, entry.filename), entry.st_size or 0, int(entry.st_mtime or 0))
                for entry in found
                if entry.st_mode is not None and stat.S_ISREG(entry.st_mode)
            ]

        return sorted(self._call(entries), key=lambda file: file.name)

    def look(self, path: str) -> RemoteFile | None:
        """The file at a path, or None when there is none or it is not a regular file."""

        def entry(client: paramiko.SFTPClient) -> RemoteFile | None:
            try:
                found = client.lstat(self._absolute(path))
            except FileNotFoundError:
                return None
            regular = found.st_mode is not None and stat.S_ISREG(found.st_mode)
            return RemoteFile(path, found.st_size or 0, int(found.st_mtime or 0)) if regular else None

        return self._call(entry)

    def fetch(self, file: RemoteFile, local: Path) -> str:
        """Copy a remote file to a local path, synced to disk, and return its SHA-256.

        Raises FileChanged when size or time differ from `file` before or after, or the bytes do not add up."""

        def copy(client: paramiko.SFTPClient) -> str:
            for request_bytes in (REQUEST_BYTES, SHORT_REQUEST_BYTES):
                received, digest = self._copy(client, file, local, request_bytes)
                if received == file.size_bytes:
                    break
            else:
                raise FileChanged(
                    f"{file.path}: {received} of {file.size_bytes} bytes arrived. It is left for the next look."
                )
            after = client.lstat(self._absolute(file.path))
            if (after.st_size, int(after.st_mtime or 0)) != (file.size_bytes, file.modified_at):
                raise FileChanged(f"{file.path} changed while it was read. It is left for the next look.")
            return digest

        try:
            return self._call(copy, MOST_TRIES)
        except FileNotFoundError:
            raise FileChanged(f"{file.path} is no longer there. It was renamed or removed while it was read.") from None

    def put(self, local: Path, path: str, modified_at: int) -> None:
        """Upload a file under a temporary name, set its time, and rename it: nobody sees it half. Overwrites nothing."""

        def upload(client: paramiko.SFTPClient) -> None:
            directory, name = posixpath.split(self._absolute(path))
            partial = posixpath.join(directory, f".{name}.part")
            _make_directories(client, directory)
            client.put(str(local), partial)
            client.utime(partial, (modified_at, modified_at))
            client.rename(partial, posixpath.join(directory, name))

        self._call(upload)

    def archive(self, file: RemoteFile) -> str | None:
        """Move a file into the `archive` directory beside it and return its new path; None when it is no longer there.

        A name that is taken gets a suffix; nothing is overwritten. A file that has been replaced since is left where it is."""
        directory, name = posixpath.split(file.path)
        archive = posixpath.join(directory, "archive")
        for attempt in range(MOST_SUFFIXES):
            if self.look(file.path) != file:
                return None
            target = posixpath.join(archive, f"{name}.{attempt}" if attempt else name)
            try:
                is_moved = self._call(lambda client, target=target: self._move(client, file.path, archive, target))
            except FileNotFoundError:  # something that is no directory has its name
                break
            if is_moved:
                moved = self.look(target)
                if moved is not None and (moved.size_bytes, moved.modified_at) != (file.size_bytes, file.modified_at):
                    # replaced between the look and the move: it is a file of its own, and goes back for the next look
                    self._call(lambda client, target=target: self._move(client, target, directory, file.path))
                    return None
                return target
        raise SftpRefused(f"{file.path} cannot be moved to {archive}: see the rights of that directory.")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._client = self._transport = None

    def _absolute(self, path: str) -> str:
        return posixpath.join(self._server.root, path.lstrip("/"))

    def _call(self, work: Callable[[paramiko.SFTPClient], T], least_tries: int = 1) -> T:
        """Do the work on the connection; after a cut, on a new one, until the deadline, but `least_tries` times in any case."""
        deadline = time.monotonic() + self._deadline_seconds
        pause, tries, answers = 0.2, 0, 0
        while True:
            tries += 1
            try:
                return work(self._connected())
            except (FileNotFoundError, SftpRefused, FileChanged):
                raise
            except PermissionError as error:
                raise SftpRefused(
                    f"{self._server} refuses: {_readable(error)}. See the rights of {self._server.username} there."
                ) from error
            except paramiko.SFTPError as error:
                self.close()
                raise SftpRefused(
                    f"{self._server} does not speak SFTP as it should ({_readable(error)}): see whether a log-in prints something."
                ) from error
            except (SftpUnavailable, paramiko.SSHException, EOFError, OSError) as error:
                reason = _readable(error)
                is_answer = self._is_answer(error)
                answers += is_answer
                self.close()
                if answers == MOST_TRIES:
                    raise SftpRefused(
                        f'{self._server} answers "{reason}" each time. See there why: a program may have it open.'
                    ) from error
                if not is_answer and tries >= least_tries and time.monotonic() + pause > deadline:
                    raise SftpUnavailable(f"{self._server} cannot be reached: {reason}.") from error
                time.sleep(pause)
                pause = min(pause * 2, 5)

    def _is_answer(self, error: Exception) -> bool:
        """Whether the server has answered, over a connection that holds, and has only said no."""
        channel = self._client.get_channel() if self._client is not None else None
        # what paramiko makes of such an answer has a text and no number
        return type(error) is OSError and error.errno is None and channel is not None and not channel.closed

    def _connected(self) -> paramiko.SFTPClient:
        if self._client is None:
            self._transport = logged_in(self._server)
            opened = self._transport.open_session()
            opened.in_buffer = _Pipe()
            opened.settimeout(STALL_SECONDS)
            opened.invoke_subsystem("sftp")
            self._client = paramiko.SFTPClient(opened)
        return self._client

    def _copy(self, client: paramiko.SFTPClient, file: RemoteFile, local: Path, request_bytes: int) -> tuple[int, str]:
        received, digest = 0, hashlib.sha256()
        progress = Progress(file.path, file.size_bytes, "bytes")
        kept: deque[Future[None]] = deque()
        with (
            client.open(self._absolute(file.path), "rb") as remote,
            _opened(local) as target,
            ThreadPoolExecutor(1) as beside,
        ):
            remote.MAX_REQUEST_SIZE = request_bytes
            before = remote.stat()
            if (before.st_size, int(before.st_mtime or 0)) != (file.size_bytes, file.modified_at):
                raise FileChanged(f"{file.path} changed since it was listed. It is left for the next look.")
            remote.prefetch(file.size_bytes, REQUESTS_IN_FLIGHT)
            while received < file.size_bytes:
                wanted = min(request_bytes, file.size_bytes - received)
                block = remote.read(wanted)
                received += len(block)
                progress.reached(received)
                kept.append(beside.submit(_keep, block, target, digest))
                if len(kept) > MOST_BLOCKS_WAITING:
                    kept.popleft().result()
                if len(block) < wanted:
                    break  # the file ended early; paramiko would wait for the rest until the connection stalls
            kept.append(beside.submit(_sync, target))
            for block_kept in kept:
                block_kept.result()
        return received, digest.hexdigest()

    def _move(self, client: paramiko.SFTPClient, source: str, directory: str, target: str) -> bool:
        """Rename without overwriting. False when the target is taken, or the source is gone.

        Raises SftpRefused when neither is so and the server does not rename it all the same."""
        with contextlib.suppress(OSError):
            client.mkdir(self._absolute(directory))
        if _exists(client, self._absolute(target)):
            return False
        try:
            client.rename(self._absolute(source), self._absolute(target))
        except OSError as error:
            if _exists(client, self._absolute(target)) or not _exists(client, self._absolute(source)):
                return False
            if isinstance(error, FileNotFoundError) or str(error) == "Failure":
                raise SftpRefused(
                    f"{source} cannot be moved to {directory}: see the rights of that directory."
                ) from error
            raise
        return True


@contextlib.contextmanager
def _own_disk(local: Path | str) -> Iterator[None]:
    """What our own disk does not take, of which another try at the server is no cure."""
    try:
        yield
    except OSError as error:
        raise DiskRefused(
            f"{local} cannot be written ({error.strerror}). Nothing was taken from SFTP. Make room there and run this again."
        ) from error


def _opened(local: Path) -> BinaryIO:
    with _own_disk(local):
        return local.open("wb")


def _keep(block: bytes, target: BinaryIO, digest: "hashlib._Hash") -> None:
    digest.update(block)
    with _own_disk(target.name):
        target.write(block)
    if target.tell() % SYNC_BYTES < len(block):
        _sync(target)


def _sync(target: BinaryIO) -> None:
    with _own_disk(target.name):
        target.flush()
        os.fsync(target.fileno())


def _readable(error: Exception) -> str:
    """What went wrong, in the server's words where it has any; bytes that are no UTF-8 as their codes."""
    return str(error).encode("utf-8", "backslashreplace").decode() or type(error).__name__


def _exists(client: paramiko.SFTPClient, path: str) -> bool:
    try:
        client.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _make_directories(client: paramiko.SFTPClient, directory: str) -> None:
    for depth in range(2, len(directory.split("/")) + 1):
        with contextlib.suppress(OSError):
            client.mkdir("/".join(directory.split("/")[:depth]))
