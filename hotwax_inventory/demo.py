"""Every import and the hard sync once, on the sample files and the simulator: `python -m hotwax_inventory.demo`.

Everything runs through Dagster, into the instance of DAGSTER_HOME, so that `make dev` shows the same runs afterwards."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from hotwax_inventory import dagster_home, settings, simulator
from hotwax_inventory.definitions import defs
from hotwax_inventory.files.sources import FEEDS
from hotwax_inventory.resources import Sftp, Warehouse

SAMPLES = settings.PROJECT / "data" / "samples"
AGE = re.compile(r"(\d+)h-ago-(.*)")
EXPORT_TIME = "%a %b %d %Y %H:%M:%S GMT+0000 (UTC)"
UPLOAD = timedelta(minutes=30)
LATE_HOURS = 72


def sample_files(now: datetime) -> Iterator[tuple[Path, str, int]]:
    """Each sample as (local file, remote path, modification time in seconds), oldest upload first.

    `26h-ago-X.csv` is X, written 26 hours ago and uploaded half an hour later; NetSuite's CSV exports begin with that time. The
    oldest export comes last: it is the late file."""
    found = []
    for path in SAMPLES.rglob("*"):
        if matched := AGE.fullmatch(path.name):
            hours = int(matched[1])
            exported = now - timedelta(hours=hours)
            folder = path.parent.relative_to(SAMPLES)
            is_dated = folder.parts[0] == "netsuite" and path.suffix == ".csv"
            name = f"{exported:{EXPORT_TIME}}-{matched[2]}" if is_dated else matched[2]
            found.append((hours, path, f"{folder.as_posix()}/{name}", int((exported + UPLOAD).timestamp())))
    found.sort(key=lambda file: (file[0] > LATE_HOURS, -file[0]))
    return ((path, remote, modified) for _, path, remote, modified in found)


def put_samples() -> int:
    """Put the sample files on SFTP; how many there are."""
    files = list(sample_files(datetime.now(UTC).replace(microsecond=0)))
    with Sftp().session() as session:
        for local, remote, modified in files:
            session.put(local, remote, modified)
    return len(files)


def run_job(name: str, instance: dg.DagsterInstance, shop_id: str | None = None) -> None:
    """Run a job to its end. Raises what the job raises."""
    say(f"  {name}{f' for {shop_id}' if shop_id else ''} …", end="")
    started = time.monotonic()
    tags = {"dagster/partition": shop_id} if shop_id else None
    result = defs.resolve_job_def(name).execute_in_process(instance=instance, tags=tags, raise_on_error=False)
    say(f" {'done' if result.success else 'FAILED'} in {time.monotonic() - started:.1f} s  (run {result.run_id[:8]})")


FILES = """
select
    config_id as feed,
    regexp_replace(file_name, '.*[(]UTC[)]-', '') as file,
    strftime(effective_at at time zone 'UTC', '%a %H:%M') as written,
    status_id as status,
    total_record_count as rows,
    total_record_count - failed_record_count - ignored_record_count as applied,
    failed_record_count as refused,
    ignored_record_count as ignored
from data_manager_log
order by log_id desc
limit 20
"""

REFUSED = """
select regexp_replace(reason, '[:0-9].*', '') as reason, count(*) as rows, min(raw_row) as example
from data_manager_error
group by all
order by rows desc
limit 10
"""

CHANGES = """
select shop_id, facility_id, outcome, count(*) as changes, sum(delta)::bigint as units
from sync_change
where sync_run_id in (select max(sync_run_id) from sync_run group by shop_id)
group by all
order by all
"""

SUMMARY = (("Files", FILES), ("Refused rows", REFUSED), ("Changes sent to Shopify", CHANGES))


def report(instance: dg.DagsterInstance) -> bool:
    """Print the table at the end; whether every level in Shopify is what it should be."""
    with Warehouse().transaction() as connection:
        for title, sql in SUMMARY:
            relation = connection.sql(sql)
            print_table(title, relation.columns, relation.fetchall())
        shops = [row[0] for row in connection.execute("select shop_id from shopify_shop order by all").fetchall()]
    equal = True
    rows = []
    for shop_id in shops:
        found = _latest(instance, "sync_verification", shop_id)
        delta = _latest(instance, "hard_sync_delta", shop_id)
        rows.append(
            (
                shop_id,
                delta.get("levels_compared"),
                delta.get("changes"),
                found.get("levels_equal"),
                found.get("levels_different"),
            )
        )
        equal = equal and found.get("levels_different") == 0 and found.get("levels_touched") == delta.get("changes")
    print_table("Levels in Shopify", ("shop", "compared", "changed", "equal to target", "different"), rows)
    return equal


def _latest(instance: dg.DagsterInstance, asset: str, shop_id: str) -> dict[str, Any]:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[shop_id]), limit=1
    ).records
    if not records or records[0].asset_materialization is None:
        return {}
    return {name: value.value for name, value in records[0].asset_materialization.metadata.items()}


def print_table(title: str, names: Any, rows: Any) -> None:
    cells = [[str(name) for name in names], *([("" if v is None else str(v))[:70] for v in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    say(f"\n{title}")
    for row in cells:
        say("  " + "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def main() -> int:
    os.environ.setdefault("SFTP_STABLE_SECONDS", "0")
    ours = simulator.running(settings.home() / "simulator") is None
    say("The simulator (SFTP server and Shopify) is started …")
    try:
        return demonstrate()
    finally:
        addresses = simulator.running(settings.home() / "simulator")
        if ours and addresses is not None:
            os.kill(addresses.pid, signal.SIGTERM)


def demonstrate() -> int:
    """Put the samples on SFTP, run the jobs, print the table; 0 when Shopify shows what was meant."""
    dagster_home.prepare()
    instance = dg.DagsterInstance.get()
    say(f"{put_samples()} sample files lie on SFTP. The jobs run through Dagster:")
    run_job("load_reference", instance)
    for feed in FEEDS:
        run_job(feed.job, instance)
    for shop_id in instance.get_dynamic_partitions("shop"):
        run_job("hard_sync", instance, shop_id)
    if not report(instance):
        say("\nShopify does not show what was meant; see the runs above.")
        return 1
    say("\nEvery level that was compared shows what we promise. To look further: make dev, then http://127.0.0.1:3000")
    return 0


if __name__ == "__main__":
    sys.exit(main())
