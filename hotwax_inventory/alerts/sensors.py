"""The two sensors that tell people: of failed runs, and of what fails without one."""

import dagster as dg

from hotwax_inventory.alerts.problems import failed_checks, failed_runs, failed_ticks
from hotwax_inventory.alerts.receivers import receivers
from hotwax_inventory.alerts.telling import DAY_SECONDS, HOUR_SECONDS, Memory, tell

NOBODY = "Nobody is told: set ALERT_WEBHOOK_URL, or ALERT_SMTP_URL and ALERT_EMAIL_TO."


# Dagster's own kind of failure sensor goes on when an alert could not be sent, and does not see runs of the command line.
@dg.sensor(
    minimum_interval_seconds=30,
    description="Tells people of every failed run: to ALERT_WEBHOOK_URL and to ALERT_EMAIL_TO, each problem once an hour.",
)
def failed_runs_alert(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Whatever job the run was of, and however it was started."""
    found = receivers()
    if not found:
        return dg.SkipReason(NOBODY)
    memory = Memory(context.cursor, found)
    problems = failed_runs(context.instance, memory.since)
    said = tell(problems, memory, found, HOUR_SECONDS, is_kept=True)
    return dg.SensorResult(skip_reason=said, cursor=memory.cursor(problems))


@dg.sensor(
    minimum_interval_seconds=60,
    description="Tells people of failed checks, and of sensors and schedules that fail, each problem once a day.",
)
def failed_checks_alert(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Checks that failed in runs that went well; those of failed runs are told with the run."""
    found = receivers()
    if not found:
        return dg.SkipReason(NOBODY)
    memory = Memory(context.cursor, found)
    problems = [*failed_checks(context.instance, memory.since), *failed_ticks(context.instance, memory.now)]
    said = tell(problems, memory, found, DAY_SECONDS, is_kept=False)
    return dg.SensorResult(skip_reason=said, cursor=memory.cursor(problems))


SENSORS = (failed_runs_alert, failed_checks_alert)
