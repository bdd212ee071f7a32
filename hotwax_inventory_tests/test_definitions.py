"""The frame: what is defined under which name, which way the stages import, and what is sent is what Shopify takes."""

import ast
import gzip
import json
import re
from pathlib import Path

import dagster as dg
import pytest
from graphql import DirectiveNode, OperationDefinitionNode, Visitor, build_client_schema, parse, validate, visit

import hotwax_inventory
from hotwax_inventory import shopify_documents, tables
from hotwax_inventory.definitions import defs
from hotwax_inventory_tests.conftest import SCHEMA_FILE, Place

PACKAGE = Path(hotwax_inventory.__file__).parent
# Each may import those before it: what has no stage, the stages in the way of the data, then what puts them together.
ORDER = (
    "simulator",
    "run_config",
    "settings",
    "run_lock",
    "dagster_home",
    "tables",
    "layout",
    "progress",
    "plots",
    "markdown",
    "sftp_errors",
    "sftp_login",
    "sftp",
    "shopify_documents",
    "shopify",
    "torn_blocks",
    "resources",
    "files",
    "webhook",
    "imports",
    "retention",
    "ledger",
    "publish",
    "reconcile",
    "alerts",
    "automation",
    "definitions",
    "demo",
    "dev",
)


# Names that a HotWax user finds again; the files of an import job are looked for by the sensor <job>_files.
IMPORT_JOBS = {
    "import_inventory",
    "import_item_receipt",
    "import_inventory_adjustment",
    "import_product_facility",
    "import_inventory_transfer",
    "import_inbound_shipment",
    "import_kit_component",
    "import_scheduled_restock",
    "import_webhook_updates",
    "load_reference",
}
JOBS = IMPORT_JOBS | {
    "hard_sync",
    "upload_recent_inventory_changes",
    "schedule_restock",
    "kit_inventory_setup",
    "process_bulk_imported_files",
    "explain",
    "report_worklist",
    "sync_inventory_from_shopify",
    "webhook_subscription",
    "clean_up",
}
ALERTS = {"failed_runs_alert", "failed_checks_alert"}
SENSORS = {f"{job}_files" for job in IMPORT_JOBS} | {"schedule_restock_due"} | ALERTS
SCHEDULES = {
    "clean_up_daily",
    "hard_sync_daily",
    "upload_recent_inventory_changes_quarter_hourly",
    "kit_inventory_setup_daily",
    "process_bulk_imported_files_every_5_minutes",
    "report_worklist_daily",
    "sync_inventory_from_shopify_daily",
    "webhook_subscription_daily",
}


def test_everything_loads_under_the_names_of_the_design() -> None:
    dg.Definitions.validate_loadable(defs)
    repository = defs.get_repository_def()
    sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
    schedules = {schedule.name: schedule for schedule in repository.schedule_defs}
    assert set(repository.job_names) == JOBS | {"__ASSET_JOB"}
    assert set(sensors) == SENSORS
    assert set(schedules) == SCHEDULES
    for name in SENSORS - ALERTS - {"schedule_restock_due"}:
        assert sensors[name].job_name == name.removesuffix("_files")
    assert schedules["hard_sync_daily"].cron_schedule == "30 6 * * *"
    assert all(s.default_status == dg.DefaultSensorStatus.STOPPED for s in sensors.values())
    assert all(s.default_status == dg.DefaultScheduleStatus.STOPPED for s in schedules.values())


def test_every_table_asset_shows_its_columns_before_the_first_run() -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert {spec.group_name for spec in specs.values()} == {"files", "imports", "ledger", "publish", "reconcile"}
    for name, spec in specs.items():
        assert spec.description, f"{name} has no description"
        if spec.group_name != "files":
            assert "dagster/column_schema" in spec.metadata, f"{name} shows no columns"


def test_a_number_that_is_published_says_which_columns_it_is_made_of() -> None:
    columns = {f"{table.name}.{column.name}" for table in tables.TABLES for column in table.columns}
    named = {source for sources in tables.MADE_OF.values() for source in sources}
    assert (named | set(tables.MADE_OF)) - columns == set()
    assert {source.split(".")[0] for source in named} - {
        spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()
    } == set()
    way, further = set(), ["sync_change.target_quantity"]
    while further:
        name = further.pop()
        way.add(name)
        further += tables.MADE_OF.get(name, ())
    assert {*tables.ROWS, "product_facility.minimum_stock", "virtual_queue_item.quantity"} <= way


def test_stages_import_one_way_only() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for name in imported_modules(path):
            if ORDER.index(name) > ORDER.index(own):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def imported_modules(path: Path) -> set[str]:
    """The parts of our package that a file imports, by their first name below it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hotwax_inventory":
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("hotwax_inventory.")}
    return found


@pytest.mark.skipif(not SCHEMA_FILE.exists(), reason="Shopify's official schema is not beside the repository")
def test_every_graphql_document_is_valid_in_the_official_schema() -> None:
    content = json.loads(gzip.decompress(SCHEMA_FILE.read_bytes()))
    schema = build_client_schema(content.get("data", content), assume_valid=True)
    assert len(shopify_documents.DOCUMENTS) == len(re.findall(r"^[A-Z_]+ = \"\"\"", documents_source(), re.MULTILINE))
    for name, document in shopify_documents.DOCUMENTS.items():
        assert validate(schema, parse(document)) == [], name


def test_every_inventory_mutation_carries_an_idempotency_key_on_its_field() -> None:
    for document in shopify_documents.DOCUMENTS.values():
        if "inventoryAdjustQuantities" in document:
            found = DirectivesOfFields()
            visit(parse(document), found)
            assert found.names == ["idempotent"]


class DirectivesOfFields(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def enter_directive(self, node: DirectiveNode, _key: object, parent: object, *_: object) -> None:
        assert not isinstance(parent, OperationDefinitionNode)
        self.names.append(node.name.value)


def documents_source() -> str:
    return Path(shopify_documents.__file__).read_text()


def test_the_warehouse_has_the_declared_tables_and_columns(place: Place) -> None:
    found = place.rows(
        "select table_name, column_name, lower(data_type), is_nullable from duckdb_columns() where not internal"
    )
    actual = {(table, column): (kind, nullable) for table, column, kind, nullable in found}
    for table in tables.TABLES:
        for column in table.columns if table not in tables.VIEWS else ():
            assert actual[table.name, column.name] == (column.type, column.optional), (table.name, column.name)


@pytest.mark.parametrize("asset", ["shopify_shop", "item_fulfillment", "inventory_item", "online_atp"])
def test_an_asset_that_is_made_with_others_can_be_asked_for_alone(place: Place, asset: str) -> None:
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey(asset)})
    result = job.execute_in_process(instance=place.instance)
    made = [
        event.step_materialization_data.materialization.asset_key for event in result.get_asset_materialization_events()
    ]
    assert dg.AssetKey(asset) in made
    assert set(made) <= {dg.AssetKey(asset), dg.AssetKey("data_manager_log")}


def test_a_check_that_comes_with_an_asset_can_be_asked_for_alone(place: Place) -> None:
    check = dg.AssetCheckKey(dg.AssetKey("inventory_item_detail"), "no_reset_is_held")
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(), asset_check_selection={check})
    (found,) = job.execute_in_process(instance=place.instance).get_asset_check_evaluations()
    assert (found.check_name, found.passed) == ("no_reset_is_held", True)


def test_a_choice_that_is_none_is_refused_with_those_that_are(place: Place) -> None:
    for job, asset, parameter, allowed in (
        ("schedule_restock", "shipment_receipt", "action", "receive, cancel, reschedule, rename"),
        ("hard_sync", "hard_sync_delta", "difference_from", "shopify, last_published"),
    ):
        with pytest.raises(dg.DagsterInvalidConfigError, match=rf"{asset}:config:{parameter} .*\({allowed}\)"):
            place.run(job, {asset: {parameter: "shopfy"}})


def test_a_query_in_the_warehouse_cannot_read_other_files(place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    with pytest.raises(Exception, match="disabled by configuration"):
        place.rows(f"select * from read_text('{secret}')")
