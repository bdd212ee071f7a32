"""Blocks of the warehouse that a killed process left half written are put back as they were.

At a checkpoint DuckDB writes tables to free places of its file, and a new header last, so that the one in force stays whole. Its
metadata alone goes to the free parts of blocks that are in force, and such a block is written where it stands. A process that is
killed within that write leaves a block of two halves: its checksum is wrong, and nobody opens the file any more. So these blocks
are kept in a file beside it for as long as the header that they belong to is in force."""

import fcntl
import os
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import duckdb

# The file's layout: three headers of a page, then blocks. DuckDB is pinned, and both are the same since its version 0.3.
HEADERS_BYTES = 3 * 4096
BLOCK_BYTES = 262_144
NUMBER_BYTES = 8


def keep(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep the blocks that the next checkpoint of the open database may write in place, unless they are kept already.

    To call before each commit: a large one is a checkpoint, and so is the end of the connection after any other. Raises OSError."""
    (name,) = connection.execute(
        "select path from duckdb_databases() where database_name = current_database()"
    ).fetchall()[0]
    if name is None:  # it is in memory
        return
    path = Path(name)
    file = _descriptor(path)
    headers = os.pread(file, HEADERS_BYTES, 0)
    _kept(path).touch()
    with _kept(path).open("r+b") as kept:
        if kept.read(HEADERS_BYTES) == headers:
            return
        numbers = connection.execute("select block_id from pragma_metadata_info()").fetchall()
        blocks = b"".join(
            number.to_bytes(NUMBER_BYTES) + os.pread(file, BLOCK_BYTES, _place(number)) for (number,) in numbers
        )
        # in the place of the last ones, since a full disk has no other; the headers, which make them count, are written last
        kept.seek(0)
        kept.write(bytes(HEADERS_BYTES) + _checksum(blocks) + blocks)
        kept.truncate()
        kept.seek(0)
        kept.write(headers)
        kept.flush()
        os.fsync(kept.fileno())


def put_back(path: Path) -> int:
    """Put back what differs from what was kept, if no checkpoint has ended since then; before the database is opened.

    Gives how many blocks. A database that somebody has open is left alone. Raises OSError."""
    if not (path.exists() and _kept(path).exists()):
        return 0
    file = _descriptor(path)
    if not _differing(path, file):
        return 0
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which ends when DuckDB closes the file
    except BlockingIOError:
        return 0
    blocks = _differing(path, file)  # as it is now that nobody else can write
    for place, block in blocks:
        os.pwrite(file, block, place)
    os.fsync(file)
    return len(blocks)


def _differing(path: Path, file: int) -> list[tuple[int, bytes]]:
    """The blocks that differ from what was kept of them, with their places; none where what was kept is of another header."""
    with _kept(path).open("rb") as kept:
        if os.pread(file, HEADERS_BYTES, 0) != kept.read(HEADERS_BYTES):
            return []
        checksum, content = kept.read(len(_checksum(b""))), kept.read()
    if checksum != _checksum(content):  # the machine stopped while they were written, before the checkpoint
        return []
    entries = (
        content[at : at + NUMBER_BYTES + BLOCK_BYTES] for at in range(0, len(content), NUMBER_BYTES + BLOCK_BYTES)
    )
    blocks = [(_place(int.from_bytes(entry[:NUMBER_BYTES])), entry[NUMBER_BYTES:]) for entry in entries]
    return [(place, block) for place, block in blocks if os.pread(file, BLOCK_BYTES, place) != block]


def _checksum(blocks: bytes) -> bytes:
    return zlib.crc32(blocks).to_bytes(4)


def _kept(path: Path) -> Path:
    return path.with_name(f"{path.name}.blocks")


def _place(number: int) -> int:
    return HEADERS_BYTES + BLOCK_BYTES * number


def _descriptor(path: Path) -> int:
    return _opened(path, path.stat().st_ino).fileno()


@lru_cache(maxsize=1)
def _opened(path: Path, inode: int) -> BinaryIO:
    # not closed as long as it is the database: closing any descriptor of a file gives up the lock that DuckDB has on it
    return path.open("r+b")
