"""A file on SFTP becomes a landed, registered file exactly once: look twice, fetch, register, archive.

Every step leaves a state from which the next run goes on. Before the registration the remote file is still there and is
fetched again; after it, a file that is still there is known by path, size, time and hash, and only archived."""

import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from hotwax_inventory import settings
from hotwax_inventory.files.inbox import fsync_folder
from hotwax_inventory.files.looking import Source, look_at
from hotwax_inventory.files.names import effective_at, export_time
from hotwax_inventory.files.registering import Landed, archive, note_archived, register
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.resources import Sftp, Warehouse, require_free_disk, scalar
from hotwax_inventory.sftp import RemoteFile, SftpSession
from hotwax_inventory.sftp_errors import DiskRefused, FileChanged, SftpRefused, SftpUnavailable

# Between two registrations a crash costs at most this many downloads.
FILES_PER_REGISTRATION = 200


class NoReference(RuntimeError):
    """There are files, and nothing yet that their rows could name."""


@dataclass
class Landing:
    """What a run landed: which files were registered, and why others were left alone, until a person acts where they are `refused`.

    `forbidden` says in sentences what the server has kept the run from: to list, to read, to archive."""

    registered: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    forbidden: dict[str, str] = field(default_factory=dict)


def land(feed: Feed, source: Source, run_id: str, sftp: Sftp, warehouse: Warehouse) -> Landing:
    """Fetch, register and archive every ready file of the source, oldest first; waits once for files that need a second look.

    Raises MissingFile for a path that is not there, NoReference, SftpUnavailable, SftpRefused, DiskNearlyFull."""
    landing = Landing()
    log = dg.get_dagster_logger()
    _remove_what_killed_runs_left(settings.landing_folder(source.config_id))
    with sftp.session(source.property_resource) as session:
        note_archived(source, session, warehouse)
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
        ready.sort(key=lambda file: (effective_at(file), file.name))
        for start in range(0, len(ready), FILES_PER_REGISTRATION):
            if start:
                log.info(f"{start} of {len(ready)} files landed.")
            batch = ready[start : start + FILES_PER_REGISTRATION]
            require_free_disk(sum(file.size_bytes for file in batch))
            landed, is_cut = list[Landed](), False
            try:
                for file in _fetched(feed, source, batch, session, landing):
                    landed.append(file)
            except SftpUnavailable as error:
                # what has come before the cut is not fetched again
                is_cut = True
                rest = len(ready) - start - len(landed)
                landing.forbidden[source.config_id] = f"{rest} of {len(ready)} files are left for the next run: {error}"
            for path, status in register(feed, source, landed, looked_at, run_id, warehouse):
                (landing.duplicates if status == "duplicate" else landing.registered).append(path)
            if is_cut:
                break
            landing.forbidden |= archive(source, [file.remote for file in landed], session, warehouse)
        landing.left |= landing.refused | landing.forbidden
    return landing


def has_reference(warehouse: Warehouse) -> bool:
    """Whether there are products and facilities for rows to name. Raises WarehouseBusy."""
    with warehouse.transaction() as connection:
        return scalar(connection, "select exists (from product) and exists (from facility)")


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
        yield Landed(file, landed, sha256, effective_at(file), export_time(file.name) if feed.is_snapshot else None)


def _remove_what_killed_runs_left(folder: Path) -> None:
    for path in filter(settings.is_left_over, folder.glob("*.part")):
        path.unlink(missing_ok=True)
