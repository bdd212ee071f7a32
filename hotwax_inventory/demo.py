"""Every import and the hard sync once, on the sample files and the simulator: `python -m hotwax_inventory.demo`.

Everything runs through Dagster, into the instance of DAGSTER_HOME, so that `make dev` shows the same runs afterwards."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx

from hotwax_inventory import dagster_home, settings, simulator
from hotwax_inventory.automation.instance import shops_with_master
from hotwax_inventory.definitions import defs
from hotwax_inventory.files import inbox
from hotwax_inventory.imports.feeds import FEEDS
from hotwax_inventory.markdown import plain_cell, table
from hotwax_inventory.resources import Sftp, Warehouse

SAMPLES = settings.PROJECT / "data" / "samples"
WAIT_SECONDS = 60
AGE = re.compile(r"(\d+)h-ago-(.*)")
# another one than that of make dev, which may be running
DEMO_PORT = "3081"
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


# in the terminal; the run's page has all
QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}


def run_job(name: str, instance: dg.DagsterInstance, shop_id: str | None = None) -> None:
    """Run a job to its end, and say whether it has succeeded."""
    say(f"  {name}{f' for {shop_id}' if shop_id else ''} …", end="")
    started = time.monotonic()
    tags = {"dagster/partition": shop_id} if shop_id else None
    result = defs.resolve_job_def(name).execute_in_process(
        instance=instance, run_config=QUIET, tags=tags, raise_on_error=False
    )
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

# What Shopify is the master of, as we have it.
TAKEN_OVER = """
select s.shop_id, p.internal_name, l.shopify_location_id, i.available_to_promise_total
from shopify_shop as s
join shopify_shop_location as l on l.shop_id = s.shop_id
join shopify_shop_product as m on m.shop_id = s.shop_id
join product as p on p.product_id = m.product_id
join inventory_item as i on i.product_id = m.product_id and i.facility_id = l.facility_id
where s.inventory_master = 'shopify'
"""

SUMMARY = (("Files", FILES), ("Refused rows", REFUSED), ("Changes sent to Shopify", CHANGES))


def report(instance: dg.DagsterInstance) -> bool:
    """Print the table at the end; whether every level in Shopify is what it should be."""
    with Warehouse().transaction() as connection:
        for title, sql in SUMMARY:
            relation = connection.sql(sql)
            print_table(title, relation.columns, relation.fetchall())
        taken_over = connection.execute(TAKEN_OVER).fetchall()
    equal = True
    rows = []
    for shop_id in simulated_shops(instance, "hotwax"):
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
    rows = []
    for shop_id in simulated_shops(instance, "shopify"):
        shown = {(level["sku"], level["location_id"]): level["available"] for level in levels(shop_id)}
        ours = {(sku, location): promise for shop, sku, location, promise in taken_over if shop == shop_id}
        different = sum(shown.get(level) != promise for level, promise in ours.items())
        rows.append((shop_id, len(shown), len(ours), different))
        equal = equal and bool(ours) and not different
    print_table("Levels taken from Shopify", ("shop", "levels (with kits)", "taken", "different"), rows)
    return equal


def simulated_shops(instance: dg.DagsterInstance, master: str) -> list[str]:
    """The shops with this `inventory_master` that the simulator answers for."""
    return [shop_id for shop_id in shops_with_master(instance, master) if settings.is_simulated(shop_id)]


def take_over(instance: dg.DagsterInstance) -> None:
    """Subscribe to the webhooks of the shops that Shopify is master of, and read their levels."""
    for shop_id in simulated_shops(instance, "shopify"):
        run_job("webhook_subscription", instance, shop_id)
        run_job("sync_inventory_from_shopify", instance, shop_id)


def sell(shop_id: str) -> None:
    """Sell a unit in a shop of the simulator, and wait until its webhook is in the inbox. Raises RuntimeError."""
    level = next(level for level in levels(shop_id) if level["available"] > 0)
    sale = {"shop": shop_id, "sku": level["sku"], "location_id": level["location_id"], "quantity": 1}
    httpx.post(f"{shopify_url()}/simulator/sale", json=sale).raise_for_status()
    say(
        f"  One {level['sku']} is sold in {shop_id}: Shopify has {level['available'] - 1} left, and says so by webhook."
    )
    wait_until(lambda: bool(inbox.waiting()), "the webhook of the sale has come")


def levels(shop_id: str) -> list[dict[str, Any]]:
    """The levels of a shop of the simulator."""
    return httpx.get(f"{shopify_url()}/simulator/levels", params={"shop": shop_id}, timeout=60).json()


def shopify_url() -> str:
    return simulator.ensure_running(settings.home() / "simulator", settings.reference_dir()).shopify_url


def callback_url(port: str) -> str:
    """Where the receiver of `receiving` is reached."""
    return f"http://127.0.0.1:{port}/webhooks/shopify"


@contextmanager
def receiving(port: str) -> Iterator[None]:
    """The webhook receiver in a process of its own. Raises RuntimeError."""
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "hotwax_inventory.webhook:app",
        "--port",
        port,
        "--log-level",
        "warning",
    ]
    process = subprocess.Popen(command, cwd=settings.PROJECT, start_new_session=True)

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"The webhook receiver has ended; is port {port} taken? WEBHOOK_PORT names another one.")
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
        return False

    try:
        wait_until(answers, "the webhook receiver answers")
        yield
    finally:
        process.terminate()
        process.wait()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Raises RuntimeError when it does not come true in time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Within {WAIT_SECONDS} seconds it did not come true that {what}.")
        time.sleep(0.1)


def _latest(instance: dg.DagsterInstance, asset: str, shop_id: str) -> dict[str, Any]:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[shop_id]), limit=1
    ).records
    if not records or records[0].asset_materialization is None:
        return {}
    return {name: value.value for name, value in records[0].asset_materialization.metadata.items()}


def print_table(title: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    say(f"\n{title}\n{table(names, rows, lambda value: plain_cell(value)[:70], len(rows), is_aligned=True)}")


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def main() -> int:
    dagster_home.prepare()
    if not settings.is_simulated():
        say(
            "The demo is for the simulator alone. Take the SFTP_* variables out of the environment and .env, then run it again."
        )
        return 1
    os.environ.setdefault("SFTP_STABLE_SECONDS", "0")
    os.environ.setdefault("WEBHOOK_CALLBACK_URL", callback_url(settings.webhook_port(DEMO_PORT)))
    say("The simulator (SFTP server and Shopify) is started …")
    with simulating():
        return demonstrate()


@contextmanager
def simulating() -> Iterator[None]:
    """End the simulator afterwards, if it has not been running before."""
    ours = simulator.running(settings.home() / "simulator") is None
    try:
        yield
    finally:
        addresses = simulator.running(settings.home() / "simulator")
        if ours and addresses is not None:
            os.kill(addresses.pid, signal.SIGTERM)


def demonstrate() -> int:
    """Put the samples on SFTP, run the jobs, print the table; 0 when Shopify shows what was meant."""
    instance = dg.DagsterInstance.get()
    say(f"{put_samples()} sample files lie on SFTP. The jobs run through Dagster:")
    run_job("load_reference", instance)
    for feed in FEEDS:
        run_job(feed.job, instance)
    for shop_id in simulated_shops(instance, "hotwax"):
        run_job("hard_sync", instance, shop_id)
    with receiving(settings.webhook_port(DEMO_PORT)):
        take_over(instance)
        for shop_id in simulated_shops(instance, "shopify"):
            sell(shop_id)
    run_job("import_webhook_updates", instance)
    if not report(instance):
        say("\nShopify does not show what was meant; see the runs above.")
        return 1
    say(
        "\nEvery level shows what we promise, and we have what Shopify is the master of. To look further: make dev, then http://127.0.0.1:3000"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
