"""Landed files in `data_manager_log`: registered once, then moved to the server's archive."""

import posixpath
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hotwax_inventory import settings
from hotwax_inventory.files.looking import Source
from hotwax_inventory.files.names import FIRST_REFUSED_OF, IS_OF, IS_REFUSED, LAST_REFUSED_OF, MOST_AHEAD
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.resources import Warehouse, scalar
from hotwax_inventory.sftp import RemoteFile, SftpSession
from hotwax_inventory.sftp_errors import SftpRefused


@dataclass(frozen=True)
class Landed:
    """A downloaded file that is not registered yet."""

    remote: RemoteFile
    path: Path
    sha256: str
    effective_at: datetime
    export_time: datetime | None


# The states of files that are applied, or will be.
COUNTS = "('pending', 'imported', 'finished', 'finished_with_errors', 'held')"
# SQL: the content of the file whose refused rows {0} brings back; null for any other file.
ORIGIN = f"""(
    select min(root.sha256)
    from data_manager_log as root
    where root.config_id = $config_id and {IS_OF.format("{0}", "root")}
)"""

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
        unnest($export_time::timestamptz[]) as export_time,
        unnest($ordinal) as ordinal
),
new_arrival as (
    -- one that is registered, and was not archived when this run looked, is the same: the last run was killed, or another is at it
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
come_back as (
    -- files whose refused rows have come back and counted
    select unnest([{FIRST_REFUSED_OF.format("m")}, {LAST_REFUSED_OF.format("m")}]) as log_id, m.effective_at
    from data_manager_log as m
    where m.config_id = $config_id and m.status_id not in ('duplicate', 'failed') and not {IS_REFUSED.format("m")}
),
came_before as (
    -- not a file whose every row was refused, nor one of rules or kits with rows that were, unless they have come back
    select l.*, {ORIGIN.format("l")} as origin_sha256
    from data_manager_log as l
    where l.config_id = $config_id
        and l.sha256 in (select sha256 from new_arrival)
        and l.status_id in {COUNTS}
        and not (
            ({IS_REFUSED.format("l")} or $is_state and coalesce(l.failed_record_count > 0, false))
            and not exists (from come_back as b where b.log_id = l.log_id and b.effective_at = l.effective_at)
        )
),
known as (
    select n.*, {ORIGIN.format("n")} as origin_sha256
    from new_arrival as n
),
judged as (
    -- equal rows that were refused of two files are not the same
    select
        n.*,
        (
            select min(l.log_id)
            from came_before as l
            where l.sha256 = n.sha256
                and not $allow_duplicate_content
                and not coalesce(l.origin_sha256 <> n.origin_sha256, false)
                and (
                    n.export_time is null
                    -- one of an earlier layout may have been exported at the time in its name, too
                    or coalesce(l.exported_at = n.export_time, l.effective_at = n.export_time or l.file_name = n.file_name)
                )
        ) as earlier_log_id,
        not $allow_duplicate_content
            and exists (
                from known as e
                where e.sha256 = n.sha256
                    and e.ordinal < n.ordinal
                    and not coalesce(e.origin_sha256 <> n.origin_sha256, false)
                    and e.export_time is not distinct from n.export_time
            ) as is_repeated
    from known as n
)
insert into data_manager_log by name
select
    (select coalesce(max(log_id), 0) from data_manager_log) + row_number() over (order by ordinal) as log_id,
    $config_id as config_id,
    remote_path,
    file_name,
    remote_modified_at,
    size_bytes,
    sha256,
    landed_path,
    case when earlier_log_id is not null or is_repeated then 'duplicate' else 'pending' end as status_id,
    effective_at,
    export_time as exported_at,
    current_timestamp as registered_at,
    $run_id as run_id,
    $property_resource as property_resource,
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
                || coalesce(
                    (
                        select ', of which ' || l.failed_record_count || ' rows were refused'
                        from data_manager_log as l
                        where l.log_id = earlier_log_id and l.failed_record_count > 0
                    ),
                    ''
                )
                || if(
                    earlier_log_id in (select log_id from data_manager_log where status_id = 'held'),
                    ', which is held: release that one.',
                    '. It was not applied again; allow_duplicate_content applies it.'
                )
        when is_repeated then 'The same content came twice in this run: what becomes of the first file stands for both.'
        when effective_at > current_timestamp + {MOST_AHEAD}
            then 'Its time, ' || strftime(effective_at, '%Y-%m-%d %H:%M:%S')
                || ' UTC, is to come, and counts as it stands. See the clock of who writes the files.'
    end as message
from judged as j
order by ordinal
"""


# A file whose every row was refused may be sent again as a whole. Then its failed-records file is not applied as well.
CAME_WHOLE = f"""
update data_manager_log as m
set
    status_id = 'duplicate',
    message = 'The file that its rows were refused of came again, as file ' || w.log_id || '. They were not applied again.'
from (
    select b.log_id as rest_log_id, min(a.log_id) as log_id
    from (
        select n.log_id, unnest([{FIRST_REFUSED_OF.format("n")}, {LAST_REFUSED_OF.format("n")}]) as refused_log_id, n.effective_at
        from data_manager_log as n
        where n.config_id = $config_id and n.log_id > $before and n.status_id = 'pending'
    ) as b
    join data_manager_log as o on o.log_id = b.refused_log_id and o.effective_at = b.effective_at
    join data_manager_log as a on a.config_id = o.config_id and a.sha256 = o.sha256 and a.log_id not in (b.log_id, o.log_id)
    where {IS_REFUSED.format("o")}
        and a.status_id in {COUNTS}
        and not {IS_REFUSED.format("a")}
        and not coalesce({ORIGIN.format("a")} <> {ORIGIN.format("o")}, false)
    group by b.log_id
) as w
where m.log_id = w.rest_log_id
"""

# A content that was said before means something again once another one lies between, in whatever order they came: of files with the
# same content one after the other, one counts. Rows that come back mended are no content of their own.
MEANT_AGAIN = f"""
with said as (
    select
        log_id,
        status_id,
        row_number() over in_order as place,
        sha256 is distinct from lag(sha256) over in_order as is_other
    from data_manager_log as l
    where config_id = $config_id
        and status_id in ('duplicate', 'pending', 'imported', 'finished', 'finished_with_errors')
        and not exists (from data_manager_log as o where {IS_OF.format("l", "o")})
    window in_order as (order by effective_at, file_name, remote_modified_at, sha256, log_id)
),
numbered as (
    select *, count_if(is_other) over (order by place) as content_number
    from said
)
update data_manager_log
set status_id = 'pending', message = null
where log_id in (
    select arg_min(log_id, place)
    from numbered
    group by content_number
    having bool_and(status_id = 'duplicate')
)
"""


def register(
    feed: Feed, source: Source, landed: Sequence[Landed], looked_at: datetime, run_id: str, warehouse: Warehouse
) -> list[tuple[str, str]]:
    """Add files to `data_manager_log` that were not there when the run looked: (remote path, status_id) of each that was added."""
    if not landed:
        return []
    home = settings.home()
    with warehouse.transaction() as connection:
        before = scalar(connection, "select coalesce(max(log_id), 0) from data_manager_log")
        connection.execute(
            REGISTER,
            {
                "config_id": source.config_id,
                "property_resource": source.property_resource,
                "is_state": feed.is_state,
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
                "export_time": [file.export_time for file in landed],
                "ordinal": list(range(len(landed))),
            },
        )
        if not source.allow_duplicate_content:
            connection.execute(CAME_WHOLE, {"config_id": source.config_id, "before": before})
        if feed.is_state:
            connection.execute(MEANT_AGAIN, {"config_id": source.config_id})
        return connection.execute(
            "select remote_path, status_id from data_manager_log where log_id > $before order by log_id",
            {"before": before},
        ).fetchall()


ARCHIVED = """
update data_manager_log
set archived_at = current_timestamp
where config_id = $config_id
    and property_resource = $property_resource
    and archived_at is null
    and remote_path in (select unnest($paths))
"""


def archive(source: Source, files: Sequence[RemoteFile], session: SftpSession, warehouse: Warehouse) -> dict[str, str]:
    """Archive registered files; {path: sentence} of those that the server does not let us move. Raises SftpUnavailable."""
    if not files:
        return {}
    refused: dict[str, str] = {}
    for file in files:
        try:
            session.archive(file)
        except SftpRefused:
            folder = posixpath.join(posixpath.dirname(file.path), "archive")
            refused[file.path] = (
                f"{file.path} was taken, and cannot be moved to {folder}: see the rights of that directory."
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


def note_archived(source: Source, session: SftpSession, warehouse: Warehouse) -> None:
    """A registered file that is gone from its place was archived by a run that could not say so any more."""
    feed = {"config_id": source.config_id, "property_resource": source.property_resource}
    with warehouse.transaction() as connection:
        waiting = [path for (path,) in connection.execute(WAITING, feed).fetchall()]
    if waiting:
        session.log_in()
    gone = [path for path in waiting if _is_gone(path, session)]
    if gone:
        with warehouse.transaction() as connection:
            connection.execute(ARCHIVED, feed | {"paths": gone})


def _is_gone(path: str, session: SftpSession) -> bool:
    """Whether a file is no longer in its place; of one that may not be looked at, nobody knows."""
    with suppress(SftpRefused):
        return session.look(path) is None
    return False
