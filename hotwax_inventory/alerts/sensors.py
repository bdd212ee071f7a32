"""The two sensors that tell people: of what did not run as it should, and of what runs well and is wrong all the same."""

import json
from collections.abc import Sequence

import dagster as dg

from hotwax_inventory.alerts.problems import failed_checks, failed_runs, failed_ticks, of_check
from hotwax_inventory.alerts.receivers import receivers
from hotwax_inventory.alerts.telling import DAY_SECONDS, HOUR_SECONDS, Memory, tell
from hotwax_inventory.reconcile import freshness
from hotwax_inventory.resources import Warehouse, WarehouseBusy


# Dagster's own kind of failure sensor goes on when an alert could not be sent, and does not see runs of the command line.
@dg.sensor(
    minimum_interval_seconds=30,
    description="Tells people of failed runs, and of sensors and schedules that fail, each problem once an hour: "
    "ALERT_WEBHOOK_URL, and ALERT_SMTP_URL with ALERT_EMAIL_TO.",
)
def failed_runs_alert(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Whatever job a run was of, and however it was started."""
    found = receivers()
    memory = Memory(context.cursor, found)
    problems = [*failed_runs(context.instance, memory.since), *failed_ticks(context.instance, memory.now)]
    said = tell(problems, memory, found, HOUR_SECONDS, is_kept=True)
    return dg.SensorResult(skip_reason=said, cursor=json.dumps(memory.kept(problems)))


@dg.sensor(
    minimum_interval_seconds=60,
    description="Tells people of failed checks, late feeds and late syncs, each problem once a day: ALERT_WEBHOOK_URL, and "
    "ALERT_SMTP_URL with ALERT_EMAIL_TO.",
)
def failed_checks_alert(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Checks that failed, but for what has failed a run, which is told with it; and those that time alone fails."""
    found = receivers()
    memory = Memory(context.cursor, found)
    timed = _timed(context.instance)
    problems = [
        *failed_checks(context.instance, memory.since),
        *(of_check(check, memory.now) for check in timed if not check.passed),
    ]
    said = tell(problems, memory, found, DAY_SECONDS, is_kept=False)
    recorded: dict[str, bool] = json.loads(context.cursor or "{}").get("recorded", {})
    now = recorded | {_name(check): check.passed for check in timed}
    return dg.SensorResult(
        skip_reason=said,
        cursor=json.dumps(memory.kept(problems) | {"recorded": now}),
        asset_events=[check for check in timed if recorded.get(_name(check)) != check.passed],
    )


def _timed(instance: dg.DagsterInstance) -> Sequence[dg.AssetCheckEvaluation]:
    """The checks that time alone fails; none in a tick in which the warehouse is busy, or before there is one."""
    warehouse = Warehouse(wait_seconds=1)
    if not warehouse.path.exists():
        return []
    try:
        return freshness.evaluations(warehouse, instance)
    except WarehouseBusy:
        return []


def _name(check: dg.AssetCheckEvaluation) -> str:
    return f"{check.asset_key.to_user_string()} {check.check_name}"


SENSORS = (failed_runs_alert, failed_checks_alert)
