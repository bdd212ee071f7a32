"""A place of its own for each test: home, reference, simulator and Dagster instance, and the few things one does with them."""

import asyncio
import gc
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy.pool import SingletonThreadPool

from hotwax_inventory.definitions import defs
from hotwax_inventory.resources import ENGINE, Warehouse
from hotwax_inventory.simulator import Simulator

# Where there is a file system in memory with room for all, the files of the tests are kept there: nothing waits for a disk.
IN_MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 4 << 30:
    os.environ["TMPDIR"] = tempfile.tempdir = str(IN_MEMORY)


def _nothing(*_: object) -> None:
    """Do nothing."""


class _Hasty:
    """asyncio with pauses of a tenth."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 10)


# What costs a test only time: pauses between two looks, a database connection for each event of an instance in memory, noting the
# version of such an instance, which is never migrated, and those of an asset's inputs, which nobody asks for; and threads that wait
# for each other at a few rows, beside another test.
SPARED = {
    "hotwax_inventory.publish.settling.PAUSE_SECONDS": 0.1,
    "hotwax_inventory.shopify.FIRST_PAUSE_SECONDS": 0.1,
    "hotwax_inventory.shopify.FIRST_POLL_SECONDS": 0.03,
    "dagster._core.storage.runs.in_memory.stamp_alembic_rev": _nothing,
    "dagster._core.storage.event_log.in_memory.stamp_alembic_rev": _nothing,
    "dagster._core.execution.context.data_version_cache.DataVersionCache.fetch_external_input_asset_version_info": _nothing,
    "hotwax_inventory.resources.ENGINE": ENGINE | {"threads": 1},
    "uvicorn.server.asyncio": _Hasty(),
    "dagster._core.storage.runs.in_memory.NullPool": SingletonThreadPool,
    "dagster._core.storage.event_log.in_memory.NullPool": SingletonThreadPool,
}

# The modification times of files for which no other is given, from an hour ago on. SFTP has whole seconds, and within one a name
# decides: what is put later is to be later, however fast the machine.
SECONDS = itertools.count(int(time.time()) - 3600)

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "shared" / "shopify" / "admin-2026-10.json.gz"
RESETS = "netsuite/inventoryitem/csv"

# Three products and a kit, two stores and a warehouse in the channel FAC_GRP, one shop with an aggregate location.
REFERENCE = {
    "product": """product_id,internal_name,product_type_id,netsuite_product_id,upca,tags
10001,TEE-S,FINISHED_GOOD,501,840001,
10002,TEE-M,FINISHED_GOOD,502,840002,
10003,TEE-L,FINISHED_GOOD,503,840003,
10009,GIFT-KIT,MARKETING_PKG_PICK,509,840009,
""",
    "facility": """facility_id,external_id,facility_name,facility_type_id,parent_facility_type_id,product_store_id
WAREHOUSE,43,Central warehouse,WAREHOUSE,PHYSICAL_STORE,STORE
BROADWAY,116,Broadway,RETAIL_STORE,PHYSICAL_STORE,STORE
BROOKLYN,281,Brooklyn,RETAIL_STORE,PHYSICAL_STORE,STORE
CONFIGURATION,,Channel settings,CONFIGURATION,VIRTUAL_FACILITY,STORE
_NA_,,Brokering queue,NA,VIRTUAL_FACILITY,STORE
PARKING,900,Pre-order parking,PRE_ORDER,VIRTUAL_FACILITY,STORE
""",
    "facility_group": """facility_group_id,facility_group_type_id,facility_id,from_date,thru_date
FAC_GRP,CHANNEL_FAC_GROUP,WAREHOUSE,2024-01-01,
FAC_GRP,CHANNEL_FAC_GROUP,BROADWAY,2024-01-01,
FAC_GRP,CHANNEL_FAC_GROUP,BROOKLYN,2024-01-01,
FAC_GRP,CHANNEL_FAC_GROUP,CONFIGURATION,2024-01-01,
""",
    "product_store": """product_store_id,reserve_inventory,hold_preorder_physical_inventory
STORE,Y,N
""",
    "shopify_shop": """shop_id,shop_domain,product_store_id,inventory_master,shopify_facility_group_mode
SHOP,shop.myshopify.com,STORE,hotwax,exclude
""",
    "shopify_shop_location": """shop_id,facility_id,shopify_location_id
SHOP,_NA_,7000
SHOP,BROADWAY,7116
SHOP,BROOKLYN,7281
""",
}


# Stock that is there before any file: $1 a number, $2 product, $3 facility, $4 on hand, $5 available to promise.
OPENED = """
insert into inventory_item_detail by name
select
    $1 as seq, $2 as product_id, $3 as facility_id, $4 as quantity_on_hand_diff, $5 as available_to_promise_diff,
    $4 as last_quantity_on_hand, $5 as last_available_to_promise, $4 as quantity, 'VAR_INTEGR' as reason_enum_id,
    timestamptz '2026-01-01 00:00:00Z' as effective_at, 0 as log_id, $1 as line_number
"""
STOCKED = """
insert into inventory_item by name
select
    $2 as product_id, $3 as facility_id, $4 as quantity_on_hand_total, $5 as available_to_promise_total, $1 as changed_seq
"""


# All that has been imported is there to stay: nobody need look through it for garbage, again and again.
gc.freeze()
gc.set_threshold(100_000, 20, 50)


class Place:
    """One retailer on one machine, empty at first."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.reference_dir = folder / "reference"
        self.reference_dir.mkdir(parents=True)
        for name, content in REFERENCE.items():
            self.write_reference(name, content)
        self.simulator = Simulator(
            folder / "simulator", self.reference_dir, schema_file=SCHEMA_FILE if SCHEMA_FILE.exists() else None
        )
        self.instance = dg.DagsterInstance.ephemeral()

    def write_reference(self, name: str, content: str) -> None:
        (self.reference_dir / f"{name}.csv").write_text(content, encoding="utf-8")

    @property
    def sftp_directory(self) -> Path:
        """The local folder that the SFTP server serves as `/`."""
        return Path(self.simulator.addresses.sftp_directory)

    def put(self, path: str, content: str | bytes, at: datetime | float | None = None) -> Path:
        """Lay a file onto the SFTP server, with a modification time: the next of SECONDS if none is given."""
        target = self.sftp_directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        moment = at.timestamp() if isinstance(at, datetime) else at or next(SECONDS)
        os.utime(target, (moment, moment))
        return target

    def put_reset(self, name: str, content: str | bytes, at: datetime | float | None = None) -> Path:
        return self.put(f"{RESETS}/{name}", content, at)

    def run(
        self, job: str, config: dict[str, dict[str, Any]] | None = None, shop: str | None = None
    ) -> dg.ExecuteInProcessResult:
        """Run a job; `config` is per asset. A failed run is a result, too."""
        return defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            run_config={"ops": {asset: {"config": values} for asset, values in (config or {}).items()}},
            tags={"dagster/partition": shop} if shop else None,
            raise_on_error=False,
        )

    def succeed(
        self, job: str, config: dict[str, dict[str, Any]] | None = None, shop: str | None = None
    ) -> dg.ExecuteInProcessResult:
        """Run a job that must succeed; what it failed of otherwise is the message of the test."""
        result = self.run(job, config, shop)
        assert result.success, self.failure(result)
        return result

    def failure(self, result: dg.ExecuteInProcessResult) -> str:
        """The text of the errors of a failed run, and of what they were caused by."""
        texts: list[str] = []
        for event in result.filter_events(lambda e: e.is_step_failure):
            error = event.step_failure_data.error
            while error is not None:
                texts.append(error.message)
                error = error.cause
        return "\n".join(texts)

    def begin_with(self, kept: Path, prepare: Callable[[], object]) -> None:
        """Begin with the warehouse that an earlier test has prepared, or prepare it and keep it for those to come."""
        if kept.exists():
            self.home.mkdir(exist_ok=True)
            shutil.copy(kept, Warehouse().path)
            shops = self.rows("select shop_id from shopify_shop")
            self.instance.add_dynamic_partitions("shop", [shop_id for (shop_id,) in shops])
        else:
            prepare()
            shutil.copy(Warehouse().path, kept)

    def rows(self, sql: str, **values: object) -> list[tuple[Any, ...]]:
        with Warehouse().transaction() as connection:
            return connection.execute(sql, values).fetchall()

    def told(self, asset: str) -> dict[str, Any]:
        """The metadata of an asset's last materialization."""
        event = self.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}

    def stock(self) -> dict[tuple[str, str], tuple[int, int]]:
        """{(product, facility): (quantity on hand, available to promise)}"""
        found = self.rows(
            "select product_id, facility_id, quantity_on_hand_total, available_to_promise_total from inventory_item"
        )
        return {(product, facility): (on_hand, promise) for product, facility, on_hand, promise in found}

    def logs(self) -> list[tuple[Any, ...]]:
        """(file name, status, rows, refused, ignored) of every registered file, in order of registration."""
        return self.rows(
            "select file_name, status_id, total_record_count, failed_record_count, ignored_record_count "
            "from data_manager_log order by log_id"
        )


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What checks that did not pass say, by their names."""
    return {
        check.check_name: check.description or "" for check in result.get_asset_check_evaluations() if not check.passed
    }


@pytest.fixture
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place whose reference has not been loaded."""
    for name in list(os.environ):
        if name.startswith(("SFTP_", "SHOPIFY_", "HOTWAX_", "DAGSTER_")) or name.endswith("_IMPORT_PATH"):
            monkeypatch.delenv(name)
    for target, value in SPARED.items():
        monkeypatch.setattr(target, value)
    place = Place(tmp_path)
    monkeypatch.setenv("HOTWAX_HOME", str(place.home))
    monkeypatch.setenv("HOTWAX_REFERENCE_DIR", str(place.reference_dir))
    monkeypatch.setenv("SFTP_STABLE_SECONDS", "0")
    with place.simulator as simulator, place.instance:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        yield place


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests leave the warehouses that they have prepared, by what is in them."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def place(empty_place: Place, kept: Path) -> Place:
    """A place with its reference loaded."""
    empty_place.begin_with(kept / "loaded.duckdb", lambda: empty_place.succeed("load_reference"))
    return empty_place
