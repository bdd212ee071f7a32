"""Dagster's own records in PostgreSQL, by environment alone, on a real server."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest

from hotwax_inventory import dagster_home, settings
from hotwax_inventory_tests.conftest import REFERENCE, Place
from hotwax_inventory_tests.dagster_dev import dagster_dev, ended_run, until
from hotwax_inventory_tests.fakes.postgres import Postgres, of_system, of_wheel, postgres

HEADER = "Item,externalFacilityId,availableQty,idValue\n"


@pytest.fixture
def server(
    request: pytest.FixtureRequest, empty_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Postgres]:
    """A PostgreSQL that the environment names, as whatever keeps Dagster's records."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    with postgres(request.param) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def records(server: Postgres, sql: str) -> list[tuple[Any, ...]]:
    """What a query of the server itself gives, past Dagster."""
    names = ("host", "port", "user", "password", "dbname")
    with closing(psycopg2.connect(**dict(zip(names, server.environment.values(), strict=True)))) as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        return cursor.fetchall()


@pytest.mark.parametrize("server", [of_wheel()], indirect=True, ids=["wheel"])
def test_runs_and_events_are_kept_in_the_postgresql_that_the_environment_names(
    empty_place: Place, server: Postgres
) -> None:
    home = dagster_home.prepare()
    with dg.DagsterInstance.get() as instance:
        empty_place.instance = instance
        assert empty_place.run("load_reference").success
        assert instance.get_dynamic_partitions("shop") == ["SHOP"]
    assert records(server, "select pipeline_name, status from runs") == [("load_reference", "SUCCESS")]
    ((events,),) = records(server, "select count(*) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'")
    assert events >= 7
    written = [path for path in home.rglob("*") if path.is_file()]
    assert not [path.name for path in written if path.suffix == ".db"]
    assert not [path.name for path in written if server.password.encode() in path.read_bytes()]


def test_without_a_postgresql_the_storage_is_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DAGSTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    dagster_home.prepare()
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []
    assert (tmp_path / "history" / "runs.db").exists()
    written = tmp_path / "dagster.yaml"
    written.write_text(written.read_text() + "# an older one of ours\n")
    dagster_home.prepare()
    assert "an older one" not in written.read_text()
    written.write_text("run_queue: {}\n")
    dagster_home.prepare()
    assert written.read_text() == "run_queue: {}\n", "somebody's own stays"
    monkeypatch.setenv("DAGSTER_PG_HOST", "127.0.0.1")
    with pytest.raises(settings.SettingError, match="DAGSTER_PG_USERNAME is not set"):
        dagster_home.prepare()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("server", [of_system() or of_wheel()], indirect=True, ids=lambda path: path.parent.name)
def test_two_runs_at_once_and_the_daemon_outlive_a_restart_of_the_server(
    empty_place: Place, server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {
        "shopify_shop": "OTHER,other.myshopify.com,STORE,hotwax,exclude",
        "shopify_shop_location": "OTHER,BROOKLYN,8281",
    }
    for table, row in other.items():
        empty_place.write_reference(table, f"{REFERENCE[table]}{row}\n")
    empty_place.simulator.stop()
    for name, value in empty_place.simulator.start().environment(["SHOP", "OTHER"]).items():
        monkeypatch.setenv(name, value)
    empty_place.simulator.bulk_delay_seconds = 10
    dagster_home.prepare()
    with dagster_dev(tmp_path / "dagster.log") as dev, dg.DagsterInstance.get() as instance:
        assert ended_run(dev.launch("load_reference"), instance).is_success
        both = [dev.launch("hard_sync", **{"dagster/partition": shop}) for shop in ("SHOP", "OTHER")]
        until(lambda: shops_read(empty_place) == {"SHOP", "OTHER"}, "both runs wait for Shopify")
        server.stop()
        server.start()
        assert [ended_run(run_id, instance).status.value for run_id in both] == ["SUCCESS", "SUCCESS"]
        empty_place.put_reset("reset.csv", HEADER + "TEE-S,116,12,501\n")
        dev.start_sensor("import_inventory_files")
        until(lambda: runs_of(server, "import_inventory") == [("SUCCESS",)], "the daemon has had the file imported")
        processes = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert empty_place.stock() == {("10001", "BROADWAY"): (12, 12)}
    assert server.password not in processes
    assert server.password not in (tmp_path / "dagster.log").read_text()


def shops_read(place: Place) -> set[str]:
    """The shops whose bulk read has begun."""
    calls = place.simulator.shops.calls
    return {call.shop_id for call in calls if call.root_field == "bulkOperationRunQuery"}


def runs_of(server: Postgres, job: str) -> list[tuple[Any, ...]]:
    return records(server, f"select status from runs where pipeline_name = '{job}'")
