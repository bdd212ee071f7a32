"""The queue of registered files, worked off by itself: HotWax's `Process Bulk Imported Files`. It never lists SFTP."""

from typing import ClassVar

import dagster as dg
from pydantic import Field

from hotwax_inventory import tables
from hotwax_inventory.imports import shopify_reset, summary
from hotwax_inventory.imports.accepting import Imported
from hotwax_inventory.imports.feeds import FEEDS, IMPORTS
from hotwax_inventory.imports.queue import FeedRun, import_pending
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.run_config import HotwaxConfig

CONFIG_IDS = """
select distinct config_id
from data_manager_log
where json_extract_string(parameters, '$.feed') is not null
"""


# It takes no file, so that none can repeat another.
CHECK_SPECS = [spec for spec in summary.check_specs("data_manager_log") if spec.name != "content_is_new"]


class UnknownConfig(ValueError):
    """No feed has this config id, and no file came under it."""


class BulkImportedFiles(HotwaxConfig):
    """Parameters of HotWax's job `Process Bulk Imported Files`."""

    spellings: ClassVar[dict[str, str]] = {"configId": "config_id"}

    config_id: str | None = Field(None, description="MDM config whose files are to be worked; absent: all")
    configId: str | None = Field(None, description="HotWax's spelling of config_id")


@dg.asset(
    group_name="imports",
    kinds={"duckdb"},
    deps=[feed.files_asset for feed in FEEDS],
    metadata=tables.DATA_MANAGER_LOG.metadata,
    check_specs=CHECK_SPECS,
)
def data_manager_log(
    context: dg.AssetExecutionContext, config: BulkImportedFiles, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One landed file: where it came from, what became of it, and how many of its rows were applied, refused or ignored."""
    if config.config_id is not None:
        _check_config_id(config.config_id, warehouse)
    imported: list[Imported] = []
    for _, imports in IMPORTS:
        imported += import_pending(imports, config.config_id, context.run.run_id, warehouse)
    with warehouse.transaction() as connection:
        if config.config_id in (None, shopify_reset.CONFIG_ID):
            shopify_reset.work_reads(context.run.run_id, connection)
        last_day = summary.files_of_the_last_day(connection)
    result = summary.result(FeedRun(imported=imported), "data_manager_log", tables.DATA_MANAGER_LOG, warehouse)
    return dg.MaterializeResult(
        metadata={**(result.metadata or {}), **last_day},
        check_results=[check for check in result.check_results or () if check.check_name != "content_is_new"],
        data_version=dg.DataVersion(summary.LOG_VERSION),
    )


def _check_config_id(config_id: str, warehouse: Warehouse) -> None:
    with warehouse.transaction() as connection:
        named = {name for (name,) in connection.execute(CONFIG_IDS).fetchall()}
        known = {feed.config_id for feed in FEEDS} | {shopify_reset.CONFIG_ID} | named
    if config_id not in known:
        raise UnknownConfig(
            f"config_id {config_id!r} is unknown: no feed has it, and no file came under it. Leave it out to work all files, "
            f"or take one of {', '.join(sorted(known))}."
        )
