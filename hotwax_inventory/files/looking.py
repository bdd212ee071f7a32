"""What lies on the SFTP server for a feed, and which of it has not changed for long enough."""

import fnmatch
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from hotwax_inventory import settings
from hotwax_inventory.sftp import RemoteFile, SftpSession
from hotwax_inventory.sftp_errors import SftpRefused

UNFINISHED_SUFFIXES = (".tmp", ".part", ".filepart", ".writing")
MAX_NAME_BYTES = 255


class MissingFile(ValueError):
    """A path that the run was asked for is not on the server."""


@dataclass(frozen=True)
class Source:
    """What a run wants from SFTP: directories and names, or exact paths; and how it came to be asked."""

    directories: tuple[str, ...]
    patterns: tuple[str, ...]
    file_name: str | None = None
    paths: tuple[str, ...] = ()
    config_id: str = ""
    property_resource: str = "FTP_CONFIG"
    allow_duplicate_content: bool = False
    parameters: str = "{}"
    # of `paths` those that wait to be imported, and need not be on the server any more
    landed: frozenset[str] = frozenset()


@dataclass
class Look:
    """What a look finds: files that have not changed for SFTP_STABLE_SECONDS, those that must be looked at again, those that are
    refused and why, and sentences about directories that may not be listed."""

    ready: list[RemoteFile] = field(default_factory=list)
    unsettled: dict[str, RemoteFile] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    forbidden: dict[str, str] = field(default_factory=dict)


def look_at(source: Source, session: SftpSession) -> Look:
    """Look once. Looks are remembered on disk, so that one by a sensor counts for the run and a restart does not shorten the wait.

    Raises SftpUnavailable; SftpRefused where no directory may be listed."""
    look = Look()
    found = [file for file in _listing(source, session, look.forbidden) if _wanted(file, source, look.refused)]
    if look.forbidden and not found:
        raise SftpRefused(" ".join(look.forbidden.values()))
    look.ready, look.unsettled = _settled(source, found)
    return look


def _listing(source: Source, session: SftpSession, forbidden: dict[str, str]) -> Iterator[RemoteFile]:
    if not source.paths:
        for stated in source.directories:
            directory = settings.remote_path(stated)
            try:
                yield from session.listing(directory)
            except SftpRefused as error:
                forbidden[directory] = f"{source.config_id}: {directory} cannot be listed: {error}"
        return
    for path in dict.fromkeys(map(settings.remote_path, source.paths)):
        file = session.look(path)
        if file is None and path not in source.landed:
            raise MissingFile(
                f"{source.config_id}: {path} is not a regular file on the SFTP server. `paths` are relative to SFTP_ROOT; this run "
                "has imported nothing. Correct the path, or leave `paths` out to take every ready file. If it was taken before, "
                "data_manager_log says what became of it."
            )
        if file is not None:
            yield file


def _wanted(file: RemoteFile, source: Source, refused: dict[str, str]) -> bool:
    name = file.name
    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES or not _harmless(name):
        refused[ascii(file.path)] = "its name has characters that no file name should have"
        return False
    if name.startswith(".") or name.lower().endswith(UNFINISHED_SUFFIXES):
        if source.paths:
            refused[ascii(file.path)] = "its name says that it is hidden or not finished"
        return False
    if source.file_name is not None:
        return name == source.file_name
    return bool(source.paths) or any(_matches(name, pattern) for pattern in source.patterns)


def _harmless(name: str) -> bool:
    """Whether a name has no separators, no control characters, no `..` and is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return name.isprintable() and "/" not in name and "\\" not in name and ".." not in name and "\ufffd" not in name


def _matches(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern: a glob as HotWax's documents write it, or a regular expression."""
    if fnmatch.fnmatchcase(name.lower(), pattern.lower()):
        return True
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:
        return False


def _settled(source: Source, found: Iterable[RemoteFile]) -> tuple[list[RemoteFile], dict[str, RemoteFile]]:
    """Split into settled and unsettled files by the looks on disk, and remember this look."""
    stable_seconds = settings.sftp_stable_seconds()
    memory = settings.landing_folder(source.config_id) / f"looks-{settings.file_name(source.property_resource)}.json"
    settled: list[RemoteFile] = []
    unsettled: dict[str, RemoteFile] = {}
    with FileLock(f"{memory}.lock"):
        before = _looks(memory)
        now, looks = time.time(), {}
        for file in found:
            size, modified, since = before.get(file.path, (-1, -1, now))
            if (size, modified) != (file.size_bytes, file.modified_at) or since > now:
                since = now
            looks[file.path] = [file.size_bytes, file.modified_at, since]
            if now - since >= stable_seconds:
                settled.append(file)
            else:
                unsettled[file.path] = file
        if source.paths:
            looks = before | looks
        if looks != before:
            temporary = memory.with_suffix(".tmp")
            temporary.write_text(json.dumps(looks))
            temporary.replace(memory)
    return settled, unsettled


def _looks(memory: Path) -> dict[str, list[float]]:
    """The looks on disk. Of a memory that a dying machine has spoilt nothing is known, so that its files wait once more."""
    try:
        return json.loads(memory.read_text())
    except (FileNotFoundError, ValueError):
        return {}
