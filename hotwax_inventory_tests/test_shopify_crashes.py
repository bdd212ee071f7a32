"""Receiver, webhook import and whole read die by kill -9 between two steps: nothing acknowledged is lost, nothing counts twice."""

import os
import signal
from pathlib import Path

import dagster as dg
import pytest

from hotwax_inventory.definitions import defs
from hotwax_inventory.files import inbox
from hotwax_inventory.imports import shopify_levels, shopify_reset, webhook_updates
from hotwax_inventory_tests import test_shopify_source
from hotwax_inventory_tests.conftest import Place
from hotwax_inventory_tests.test_crashes import OWNERS, PRELOADED, PROCESSES, Point, _arm, ended, told
from hotwax_inventory_tests.test_shopify_source import (
    BROADWAY,
    BROOKLYN,
    TEE_M,
    TEE_S,
    body,
    dispositions,
    event,
    show,
)
from hotwax_inventory_tests.test_webhook import SECRET, Caller, kept

PRELOADED.append("hotwax_inventory_tests.test_shopify_crashes")
OWNERS |= {
    "os": os,
    "inbox": inbox,
    "shopify_levels": shopify_levels,
    "shopify_reset": shopify_reset,
    "webhook_updates": webhook_updates,
}
IMPORT, SYNC = "import_webhook_updates", "sync_inventory_from_shopify"


def _work(environment: dict[str, str], job: str, point: Point) -> None:
    os.environ.update(environment)
    _arm(point)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("shop", ["SHOP"])
        tags = {"dagster/partition": "SHOP"} if job == SYNC else None
        defs.resolve_job_def(job).execute_in_process(instance=instance, tags=tags)


def _receive(environment: dict[str, str], content: bytes, point: Point) -> None:
    os.environ.update(environment)
    _arm(point)
    if Caller().post(content) == 200:
        (Path(environment["HOTWAX_HOME"]) / "acknowledged").touch()


@pytest.fixture
def place(empty_place: Place, kept: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place whose shop SHOP is master of its stock, and whose receiver knows a secret."""
    monkeypatch.setenv("SHOPIFY_SHOP_WEBHOOK_SECRET", SECRET)
    for name, content in test_shopify_source.REFERENCE.items():
        empty_place.write_reference(name, content)
    empty_place.begin_with(kept / "master.duckdb", lambda: empty_place.succeed("load_reference"))
    return empty_place


BOTH_WAYS = ("before", "after")
STEPS = [
    *((IMPORT, Point(name, 1, when)) for name in ("inbox._landed", "inbox.remove") for when in BOTH_WAYS),
    *((IMPORT, Point("webhook_updates.import_batch", 1, when)) for when in BOTH_WAYS),
    *((IMPORT, Point("entries.transaction", call, when)) for call in (1, 2) for when in BOTH_WAYS),
    *((SYNC, Point(f"client.{name}", 1, "after")) for name in ("run_query", "wait", "download")),
    *((SYNC, Point("shopify_levels.load_levels", 1, when)) for when in BOTH_WAYS),
    *((SYNC, Point("resources.transaction", call, when)) for call in (2, 3, 4, 5, 6) for when in BOTH_WAYS),
    *(
        (SYNC, Point(f"shopify_reset.{name}", 1, when))
        for name in ("register_read", "work_reads")
        for when in BOTH_WAYS
    ),
    *((SYNC, Point("entries.transaction", 1, when)) for when in BOTH_WAYS),
]
SUMS = """
select product_id, facility_id, sum(quantity_on_hand_diff)::bigint, sum(available_to_promise_diff)::bigint
from inventory_item_detail
group by all
order by all
"""
EVERYDAY = [STEPS[n] for n in (2, 5, -5)]
OTHERS = [step for step in STEPS if step not in EVERYDAY]


@pytest.mark.parametrize(
    ("job", "point"),
    [
        *EVERYDAY,
        *(
            # .ci/run has no time for the others
            pytest.param(*step, marks=pytest.mark.soak)
            for step in OTHERS
        ),
    ],
    ids=str,
)
def test_a_run_that_dies_is_made_good_by_the_next_ones(place: Place, job: str, point: Point) -> None:
    inbox.write([event("a", body()), event("refused", body(item=1)), event("null", body(TEE_M, available=None))])
    inbox.write([event("d", body(TEE_M, BROOKLYN, 4, 1)), event("e", body(available=3, minutes=2))])
    show(place, 1.5, (TEE_S, BROADWAY, 9, 1), (TEE_M, BROOKLYN, 6, 0), (TEE_S, BROOKLYN, 2, 0))
    process = PROCESSES.Process(target=_work, args=(told(), job, point))
    process.start()
    assert ended(process) == -signal.SIGKILL, "the point was not reached"
    for undisturbed in (IMPORT, SYNC):
        place.succeed(undisturbed, shop="SHOP" if undisturbed == SYNC else None)

    assert place.stock() == {
        ("10001", "BROADWAY"): (3, 3),
        ("10002", "BROOKLYN"): (6, 6),
        ("10001", "BROOKLYN"): (2, 2),
    }
    assert dispositions(place) == {"a": "applied", "refused": "refused", "null": "null", "d": "applied", "e": "applied"}
    logs = place.logs()
    assert [log[1:] for log in logs if log[0].startswith("webhooks")] == [("finished_with_errors", 5, 1, 1)]
    reads = [log[1:] for log in logs if log[0].startswith("levels")]
    # a read that the dead run had registered counts beside the one of the next run: it has the same levels
    assert reads in ([("finished", 3, 0, 0)], [("finished", 3, 0, 0)] * 2)
    assert place.rows("select count(*) from data_manager_error") == [(1,)]
    assert inbox.waiting() == []
    for doubled in (
        "select seq from inventory_item_detail group by all having count(*) > 1",
        "select log_id, line_number from inventory_item_detail group by all having count(*) > 1",
        "select log_id, line_number from shopify_inventory_reset group by all having count(*) > 1",
    ):
        assert place.rows(doubled) == [], doubled
    assert place.rows(SUMS) == sorted((*key, *totals) for key, totals in place.stock().items())


WRITES = [Point(name, 1, when) for name in ("path.rename", "inbox.fsync_folder", "inbox.write") for when in BOTH_WAYS]
WRITES += [Point("os.fsync", call, when) for call in (1, 2) for when in BOTH_WAYS]


@pytest.mark.parametrize(
    "point",
    [WRITES[0], WRITES[-1], *(pytest.param(point, marks=pytest.mark.long) for point in WRITES[1:-1])],
    ids=str,
)
def test_a_receiver_that_dies_has_kept_what_it_has_acknowledged(place: Place, point: Point) -> None:
    content = body(available=7).encode()
    process = PROCESSES.Process(target=_receive, args=(told(), content, point))
    process.start()
    assert ended(process) == -signal.SIGKILL, "the point was not reached"
    assert not (place.home / "acknowledged").exists()
    # Shopify has had no answer, and sends it again
    assert len(kept()) <= 1
    assert Caller().post(content) == 200
    assert [text for _, text in kept()] == [content.decode()]
