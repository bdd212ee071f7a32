"""What a file's name says: when it was exported, and whose refused rows are in it."""

import re
from datetime import UTC, datetime, timedelta

from hotwax_inventory.sftp import RemoteFile

# How far a sender's clock may run ahead of ours, in SQL. A file of a later time would beat every true one until then.
MOST_AHEAD = "interval 10 minutes"
OLDEST_EXPORT = timedelta(days=7)
# A failed-records file has in its name the number of the file that its rows were refused of; where they came back and were refused
# again, also that of the file in which they came last.
REFUSED = re.compile("-failed-records-([0-9]+)")
LAST_REFUSED = "-failed-records-(?:[0-9]+-)?([0-9]+)"
# SQL, {0} and {1} being files: of which file the rows of {0} were refused first, of which last; and whether {1} is that first file.
FIRST_REFUSED_OF, LAST_REFUSED_OF = (
    f"try_cast(regexp_extract({{0}}.file_name, '{pattern}', 1) as bigint)"
    for pattern in (REFUSED.pattern, LAST_REFUSED)
)
IS_OF = f"{{1}}.log_id = {FIRST_REFUSED_OF} and {{1}}.effective_at = {{0}}.effective_at"
# SQL: whether every row of {0} was refused. Ignored rows do not count.
IS_REFUSED = (
    "coalesce({0}.failed_record_count > 0 "
    "and {0}.failed_record_count + {0}.ignored_record_count >= {0}.total_record_count, false)"
)


def effective_at(file: RemoteFile) -> datetime:
    """When the rows of a file take effect: the export time in its name, or its modification time.

    The name counts when it carries a time with its zone, not after the modification time and at most 7 days before it; rows that we
    have refused may take longer to come back."""
    modified = datetime.fromtimestamp(file.modified_at, UTC)
    exported = export_time(file.name)
    # SFTP tells whole seconds
    if exported is None or exported >= modified + timedelta(seconds=1):
        return modified
    return modified if exported < modified - OLDEST_EXPORT and not REFUSED.search(file.name) else exported


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
    except (ValueError, OverflowError):  # in its zone it may be of a year that there is not
        return None
    return None
