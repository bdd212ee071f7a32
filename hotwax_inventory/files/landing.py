"""A file on SFTP becomes a landed, registered file exactly once: look twice, fetch, register, archive.

Every step leaves a state from which the next run goes on. Before the registration the remote file is still there and is
fetched again; after it, a file that is still there is known by path, size, time and hash, and only archived."""

import contextlib
import fnmatch
import json
import posixpath
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from filelock import FileLock

from hotwax_inventory import settings
from hotwax_inventory.files.inbox import fsync_folder
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.resources import Sftp, Warehouse, require_free_disk
from hotwax_inventory.sftp import DiskRefused, FileChanged, RemoteFile, SftpRefused, SftpSession

UNFINISHED_SUFFIXES = (".tmp", ".part", ".filepart", ".writing")
# Between two registrations a crash costs at most this many downloads.
FILES_PER_REGISTRATION = 200
MAX_NAME_BYTES = 255
OLDEST_EXPORT = timedelta(days=7)
# What is in the name of a file of refused rows: the number of the file that they are of.
REFUSED = re.compile("-failed-records-([0-9]+)")
# SQL: whether the rows of {0} are refused ones of {1} that have come back.
IS_OF = (
    f"{{1}}.log_id = try_cast(regexp_extract({{0}}.file_name, '{REFUSED.pattern}', 1) as bigint) "
    "and {1}.effective_at = {0}.effective_at"
)


class MissingFile(ValueError):
    """A path that the run was asked for is not on the server."""


class NoReference(RuntimeError):
    """There are files, and nothing yet that their rows could name."""


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


@dataclass
class Landing:
    """What a run landed: which files were registered, and why others were left alone, until a person acts where they are `refused`.

    `forbidden` says in sentences what the server's rights have kept the run from: to list, to read, to archive."""

    registered: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    forbidden: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Landed:
    """A downloaded file that is not registered yet."""

    remote: RemoteFile
    path: Path
    sha256: str
    effective_at: datetime
    export_time: datetime | None


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


def land(feed: Feed, source: Source, run_id: str, sftp: Sftp, warehouse: Warehouse) -> Landing:
    """Fetch, register and archive every ready file of the source, oldest first; waits once for files that need a second look.

    Raises MissingFile for a path that is not there, NoReference, SftpUnavailable, SftpRefused, DiskNearlyFull."""
    landing = Landing()
    log = dg.get_dagster_logger()
    _remove_what_killed_runs_left(settings.landing_folder(source.config_id))
    with sftp.session(source.property_resource) as session:
        _note_archived(source, session, warehouse)
        looked_at = datetime.now(UTC)
        look = look_at(source, session)
        if look.unsettled:
            log.info(f"{len(look.unsettled)} files are looked at again in {settings.sftp_stable_seconds()} seconds.")
            time.sleep(settings.sftp_stable_seconds())
            look = look_at(source, session)
        ready, landing.refused, landing.forbidden = look.ready, look.refused, look.forbidden
        landing.left |= dict.fromkeys(look.unsettled, "still changing")
        if ready and not has_reference(warehouse):
            raise NoReference(
                f"{len(ready)} files stay on SFTP: there is no product or no facility yet, so that all their rows would be "
                "refused. Run load_reference, which loads the CSVs of HOTWAX_REFERENCE_DIR; then run this again."
            )
        ready.sort(key=lambda file: (effective_at(file)[0], file.name))
        for start in range(0, len(ready), FILES_PER_REGISTRATION):
            if start:
                log.info(f"{start} of {len(ready)} files landed.")
            batch = ready[start : start + FILES_PER_REGISTRATION]
            require_free_disk(sum(file.size_bytes for file in batch))
            landed = list(_fetched(feed, source, batch, session, landing))
            _register(feed, source, landed, looked_at, run_id, warehouse, landing)
            landing.forbidden |= _archive(source, [file.remote for file in landed], session, warehouse)
        landing.left |= landing.refused | landing.forbidden
    return landing


def has_reference(warehouse: Warehouse) -> bool:
    """Whether there are products and facilities for rows to name. Raises WarehouseBusy."""
    with warehouse.transaction() as connection:
        return connection.execute("select exists (from product) and exists (from facility)").fetchall()[0][0]


def effective_at(file: RemoteFile) -> tuple[datetime, datetime | None]:
    """When the rows of a file take effect, and the export time in its name if that is what says so.

    The name counts when it carries a time with its zone, not after the modification time and at most 7 days before it; rows that we
    have refused may take longer to come back."""
    modified = datetime.fromtimestamp(file.modified_at, UTC)
    exported = export_time(file.name)
    # SFTP tells whole seconds
    if exported is None or exported >= modified + timedelta(seconds=1):
        return modified, None
    if exported < modified - OLDEST_EXPORT and not REFUSED.search(file.name):
        return modified, None
    return exported, exported


NETSUITE_TIME = re.compile(r"\b([A-Z][a-z]{2} \d{1,2} \d{4} \d{2}:\d{2}:\d{2}) (?:GMT|UTC)([+-]\d{2}):?(\d{2})")
ISO_TIME = re.compile(
    r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})T(\d{2}):?(\d{2})(?::?(\d{2})(?:[.,](\d{1,9}))?)?(Z|[+-]\d{2}(?::?\d{2})?)(?![A-Za-z0-9])"
)


def export_time(name: str) -> datetime | None:
    """The time with a zone in a file's name: JavaScript's form as NetSuite writes it, or ISO 8601; else None."""
    try:
        if found := NETSUITE_TIME.search(name):
            return datetime.strptime(f"{found[1]} {found[2]}{found[3]}", "%b %d %Y %H:%M:%S %z").astimezone(UTC)
        if found := ISO_TIME.search(name):
            year, month, day, hour, minute, second, fraction, zone = found.groups()
            stamp = f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}.{(fraction or '0')[:6].ljust(6, '0')}"
            return datetime.fromisoformat(stamp + ("+00:00" if zone == "Z" else zone)).astimezone(UTC)
    except ValueError:
        return None
    return None


def _listing(source: Source, session: SftpSession, forbidden: dict[str, str]) -> Iterator[RemoteFile]:
    if not source.paths:
        for stated in source.directories:
            directory = _relative(stated)
            try:
                yield from session.listing(directory)
            except SftpRefused as error:
                forbidden[directory] = f"{source.config_id}: {directory} cannot be listed: {error}"
        return
    for path in dict.fromkeys(_relative(path) for path in source.paths):
        file = session.look(path)
        if file is None:
            raise MissingFile(
                f"{source.config_id}: {path} is not a regular file on the SFTP server. `paths` are relative to SFTP_ROOT; "
                "nothing was imported. Correct the path, or leave `paths` out to take every ready file."
            )
        yield file


def _relative(path: str) -> str:
    """A remote path as it is kept: relative to SFTP_ROOT, whether it is stated with a slash or without."""
    return posixpath.normpath(f"/{path}").lstrip("/")


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


def _fetched(
    feed: Feed, source: Source, files: Iterable[RemoteFile], session: SftpSession, landing: Landing
) -> Iterator[Landed]:
    folder = settings.landing_folder(source.config_id)
    for file in files:
        temporary = folder / f"{uuid.uuid4()}.part"
        try:
            sha256 = session.fetch(file, temporary)
            suffix = ".json" if file.name.lower().endswith(".json") else ".csv"
            landed = folder / f"{sha256}{suffix}"
            temporary.replace(landed)
            fsync_folder(folder)
        except FileChanged as error:
            landing.left[file.path] = str(error)
            continue
        except DiskRefused:
            raise
        except SftpRefused as error:
            landing.forbidden[file.path] = f"{file.path} cannot be read: {error}"
            continue
        finally:
            temporary.unlink(missing_ok=True)
        time_of_effect, exported = effective_at(file)
        yield Landed(file, landed, sha256, time_of_effect, exported if feed.is_snapshot else None)


REGISTER = f"""
with arrived as (
    select
        unnest($remote_path) as remote_path,
        unnest($file_name) as file_name,
        unnest($remote_modified_at) as remote_modified_at,
        unnest($size_bytes) as size_bytes,
        unnest($sha256) as sha256,
        unnest($landed_path) as landed_path,
        unnest($effective_at) as effective_at,
        unnest($content) as content,
        unnest($ordinal) as ordinal
),
known as (
    -- Registered, but not archived when this run looked (the last one was killed, or another one is at it): the same arrival.
    select a.*
    from arrived as a
    where not exists (
        from data_manager_log as l
        where l.config_id = $config_id
            and l.property_resource = $property_resource
            and l.remote_path = a.remote_path
            and l.sha256 = a.sha256
            and l.size_bytes = a.size_bytes
            and l.remote_modified_at = a.remote_modified_at
            and (l.archived_at is null or l.archived_at >= $looked_at)
    )
),
judged as (
    select
        k.*,
        (
            select min(l.log_id)
            from data_manager_log as l
            where l.config_id = $config_id
                and l.sha256 = k.sha256
                and ($allow_duplicate_content is false)
                and l.status_id in ('pending', 'imported', 'finished', 'finished_with_errors', 'held')
                and (k.content = k.sha256 or l.effective_at = k.effective_at)
        ) as earlier_log_id,
        row_number() over (partition by content order by ordinal) > 1 and not $allow_duplicate_content as is_repeated
    from known as k
)
insert into data_manager_log
select
    (select coalesce(max(log_id), 0) from data_manager_log) + row_number() over (order by ordinal) as log_id,
    $config_id,
    remote_path,
    file_name,
    remote_modified_at,
    size_bytes,
    sha256,
    landed_path,
    case when earlier_log_id is not null or is_repeated then 'duplicate' else 'pending' end as status_id,
    null as total_record_count,
    null as failed_record_count,
    null as ignored_record_count,
    effective_at,
    current_timestamp as registered_at,
    null as archived_at,
    null as started_at,
    null as finished_at,
    null as rows_removed_at,
    $run_id,
    $property_resource,
    coalesce(
        (
            -- rows that were refused are read as they were before
            select json_merge_patch(l.parameters, '{{"approve": null}}')
            from data_manager_log as l
            where l.config_id = $config_id
                and {IS_OF.format("j", "l")}
        ),
        $parameters
    ) as parameters,
    case
        when earlier_log_id is not null
            then 'The same content came before, as file ' || earlier_log_id
                || '. It was not applied again; allow_duplicate_content applies it.'
        when is_repeated then 'The same content came twice in this run. It was applied once.'
    end as message
from judged as j
order by ordinal
"""


# What has come between a content and the same content again makes the second one mean something, whichever of the three came last.
MEANT_AGAIN = """
with said as (
    select log_id, sha256, effective_at, status_id
    from data_manager_log
    where config_id = $config_id
        and status_id in ('duplicate', 'pending', 'imported', 'finished', 'finished_with_errors')
),
pair as (
    select again.log_id, count(other.log_id) as between_count
    from said as again
    join said as first on first.sha256 = again.sha256 and first.status_id <> 'duplicate'
    left join said as other
        on first.effective_at <> again.effective_at
        and other.sha256 <> again.sha256
        and other.status_id <> 'duplicate'
        and other.effective_at between least(first.effective_at, again.effective_at)
            and greatest(first.effective_at, again.effective_at)
    where again.status_id = 'duplicate'
    group by again.log_id, first.log_id
)
update data_manager_log
set status_id = 'pending', message = null
where log_id in (select log_id from pair group by log_id having min(between_count) > 0)
"""


def _register(
    feed: Feed,
    source: Source,
    landed: list[Landed],
    looked_at: datetime,
    run_id: str,
    warehouse: Warehouse,
    landing: Landing,
) -> None:
    if not landed:
        return
    home = settings.home()
    with warehouse.transaction() as connection:
        before = connection.execute("select coalesce(max(log_id), 0) from data_manager_log").fetchall()[0][0]
        connection.execute(
            REGISTER,
            {
                "config_id": source.config_id,
                "property_resource": source.property_resource,
                "allow_duplicate_content": source.allow_duplicate_content,
                "parameters": source.parameters,
                "run_id": run_id,
                "looked_at": looked_at,
                "remote_path": [file.remote.path for file in landed],
                "file_name": [file.remote.name for file in landed],
                "remote_modified_at": [datetime.fromtimestamp(file.remote.modified_at, UTC) for file in landed],
                "size_bytes": [file.remote.size_bytes for file in landed],
                "sha256": [file.sha256 for file in landed],
                "landed_path": [str(file.path.relative_to(home)) for file in landed],
                "effective_at": [file.effective_at for file in landed],
                "content": [
                    f"{file.sha256} {file.export_time}" if file.export_time else file.sha256 for file in landed
                ],
                "ordinal": list(range(len(landed))),
            },
        )
        if feed.is_state:
            connection.execute(MEANT_AGAIN, {"config_id": source.config_id})
        rows = connection.execute(
            "select remote_path, status_id from data_manager_log where log_id > $before order by log_id",
            {"before": before},
        ).fetchall()
    for path, status in rows:
        (landing.duplicates if status == "duplicate" else landing.registered).append(path)


ARCHIVED = """
update data_manager_log
set archived_at = current_timestamp
where config_id = $config_id
    and property_resource = $property_resource
    and archived_at is null
    and remote_path in (select unnest($paths))
"""


def _archive(source: Source, files: list[RemoteFile], session: SftpSession, warehouse: Warehouse) -> dict[str, str]:
    """Archive registered files; those that the server does not let us move, with a sentence each."""
    if not files:
        return {}
    refused: dict[str, str] = {}
    for file in files:
        try:
            session.archive(file)
        except SftpRefused:
            archive = posixpath.join(posixpath.dirname(file.path), "archive")
            refused[file.path] = (
                f"{file.path} was taken, and cannot be moved to {archive}: see the rights of that directory."
            )
    feed = {"config_id": source.config_id, "property_resource": source.property_resource}
    with warehouse.transaction() as connection:
        moved = [file.path for file in files if file.path not in refused]
        connection.execute(ARCHIVED, feed | {"paths": moved})
    return refused


WAITING = """
select distinct remote_path
from data_manager_log
where config_id = $config_id
    and property_resource = $property_resource
    and archived_at is null
"""


def _note_archived(source: Source, session: SftpSession, warehouse: Warehouse) -> None:
    """A registered file that is gone from its place was archived by a run that could not say so any more."""
    feed = {"config_id": source.config_id, "property_resource": source.property_resource}
    with warehouse.transaction() as connection:
        waiting = [path for (path,) in connection.execute(WAITING, feed).fetchall()]
    gone = [path for path in waiting if session.look(path) is None]
    if gone:
        with warehouse.transaction() as connection:
            connection.execute(ARCHIVED, feed | {"paths": gone})


def _remove_what_killed_runs_left(folder: Path) -> None:
    """Downloads older than a day belong to no run that lives."""
    for path in folder.glob("*.part"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - 86_400:
                path.unlink()
