"""What has gone wrong, as Dagster has it on record: runs that failed, checks that failed in runs that did not, looks of sensors
and schedules that failed."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus
from dagster_shared.error import SerializableErrorInfo

MOST_RUNS = 500
MOST_TEXT = 2000
OURS = re.compile(r"^hotwax_inventory[\w.]*: ")
DAGSTERS = re.compile(r"^dagster[\w.]*: ")
GONE = "Its process has ended without a word: killed, or out of memory. What it began is brought to its end by the next run."
TOLD_OF_A_RUN = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}


@dataclass(frozen=True)
class Problem:
    """Something that a person must hear of. `kind` is equal for what is the same problem; one that lasts has no `event`."""

    title: str
    text: str
    kind: str
    at: float
    event: str | None = None
    fields: dict[str, str] = field(default_factory=dict)


def failed_runs(instance: dg.DagsterInstance, since: datetime) -> list[Problem]:
    """Each run that has failed since then, of whatever job and however started, with its causes and its failed checks."""
    found = []
    for record in _ended(instance, since, [dg.DagsterRunStatus.FAILURE]):
        run, at = record.dagster_run, record.end_time or 0.0
        text = " ".join(dict.fromkeys(_causes(run.run_id, instance))) or "Dagster does not say why."
        if run.tags.get("dagster/will_retry") == "true":
            text += " Dagster starts it again by itself."
        found.append(
            Problem(
                title=f"{_name(run)} failed{_for_shop(run)}",
                text=f"{text[:MOST_TEXT]}\n{_where(run, at)}",
                kind=_kind(_name(run), _for_shop(run), text),
                at=at,
                event=run.run_id,
                fields={"problem": "run failed", **_fields(run, at)},
            )
        )
    return found


def failed_checks(instance: dg.DagsterInstance, since: datetime) -> list[Problem]:
    """Each check that has failed since then in a run that went well, and each that warns; what has failed a run is told with it.

    A warning is the same problem whatever it says, so that a feed with refused rows every day is told of once a day."""
    found = []
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE]
    for record in _ended(instance, since, ended):
        run, at = record.dagster_run, record.end_time or 0.0
        for check in _failed_evaluations(run.run_id, instance):
            if _is_error(check) and run.status == dg.DagsterRunStatus.FAILURE:
                continue
            problem = of_check(check, at, run.tags.get("dagster/partition"))
            found.append(
                replace(
                    problem,
                    text=f"{problem.text}\n{_where(run, at)}",
                    event=f"{run.run_id} {problem.title}",
                    fields={**problem.fields, **_fields(run, at)},
                )
            )
    return found


def of_check(check: dg.AssetCheckEvaluation, at: float, shop_id: str | None = None) -> Problem:
    """The problem that a failed evaluation of a check is; it lasts until the check passes. Other `files` are another problem."""
    asset = check.asset_key.to_user_string()
    is_error = check.severity == dg.AssetCheckSeverity.ERROR
    text = check.description or "See the check's metadata on the asset."
    title = (
        f"{asset}: {check.check_name} {'failed' if is_error else 'warns'}{f' for shop {shop_id}' if shop_id else ''}"
    )
    return Problem(
        title=title,
        text=text[:MOST_TEXT],
        kind=_kind(title, text if is_error else "")
        + _digest(check.metadata["files"].value if "files" in check.metadata else ""),
        at=at,
        fields={"problem": "check failed", "asset": asset, "check": check.check_name, "severity": check.severity.value},
    )


def failed_ticks(instance: dg.DagsterInstance, now: float) -> list[Problem]:
    """Each sensor or schedule that is on and whose last look, within a day, failed: it starts nothing, so no run will tell."""
    found: list[Problem] = []
    if instance.schedule_storage is None:
        return found
    for state in instance.all_instigator_state(instigator_statuses={InstigatorStatus.RUNNING}):
        ended = [status for status in TickStatus if status != TickStatus.STARTED]
        ticks = instance.get_ticks(
            state.instigator_origin_id, state.selector_id, after=now - 86_400, limit=1, statuses=ended
        )
        if ticks and ticks[0].status == TickStatus.FAILURE and ticks[0].error:
            text = _sentence(ticks[0].error)
            found.append(
                Problem(
                    title=f"{state.instigator_name} cannot look, and starts nothing",
                    text=text[:MOST_TEXT],
                    kind=_kind(state.instigator_name, text),
                    at=now,
                    fields={"problem": "sensor or schedule failed", "sensor": state.instigator_name},
                )
            )
    return found


def _ended(
    instance: dg.DagsterInstance, since: datetime, statuses: Sequence[dg.DagsterRunStatus]
) -> list[dg.RunRecord]:
    """Runs that have ended in one of these ways, the oldest first. A run's tags may change after its end; that is no news."""
    records = instance.get_run_records(
        dg.RunsFilter(statuses=list(statuses), updated_after=since),
        limit=MOST_RUNS,
        order_by="update_timestamp",
        ascending=True,
    )
    return [record for record in records if (record.end_time or 0) >= since.timestamp()]


def _causes(run_id: str, instance: dg.DagsterInstance) -> Iterator[str]:
    """The sentences that say why a run has failed: of its steps, else of the run itself; and what its failed checks say."""
    events = [
        record.event_log_entry.dagster_event
        for record in instance.get_records_for_run(run_id, of_type=TOLD_OF_A_RUN).records
    ]
    checks = [check.description for check in _failed_evaluations(run_id, instance) if _is_error(check)]
    steps = [event.step_failure_data.error for event in events if event and event.is_step_failure]
    said = [_sentence(error) for error in steps if error and error.cls_name != "DagsterAssetCheckFailedError"]
    yield from said
    yield from (text for text in checks if text and not any(text in sentence for sentence in said))
    for event in events if not said else ():
        if event and event.event_type == dg.DagsterEventType.RUN_FAILURE:
            # one that was marked as failed from outside, since its process is gone, has no data
            error = event.job_failure_data.error if event.event_specific_data else None
            if event.event_specific_data is None or not any(checks):
                yield _sentence(error) if error else f"{event.message or ''} {GONE}"


def _failed_evaluations(run_id: str, instance: dg.DagsterInstance) -> list[dg.AssetCheckEvaluation]:
    events = [
        record.event_log_entry.dagster_event
        for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    ]
    checks = [event.asset_check_evaluation_data for event in events if event]
    return [check for check in checks if not check.passed]


def _is_error(check: dg.AssetCheckEvaluation) -> bool:
    return check.severity == dg.AssetCheckSeverity.ERROR


def _sentence(error: SerializableErrorInfo) -> str:
    """What the first error of ours in the chain says, which is what, where and what to do; else the first that is not Dagster's."""
    chain = [error]
    while chain[-1].cause is not None:
        chain.append(chain[-1].cause)
    for text in (one.message.strip() for one in chain):
        if OURS.match(text):
            return OURS.sub("", text)
    found = next((one for one in chain if not DAGSTERS.match(one.message)), chain[-1])
    return f"{found.message.strip()} This is none of the errors that are explained; the log says where it was."


def _name(run: dg.DagsterRun) -> str:
    """The job, or what was materialised by hand."""
    if not run.job_name.startswith("__"):
        return run.job_name
    assets = sorted(key.to_user_string() for key in run.asset_selection or ())
    checks = sorted(key.name for key in run.asset_check_selection or ())
    return ", ".join(assets or checks) or run.job_name


def _for_shop(run: dg.DagsterRun) -> str:
    shop_id = run.tags.get("dagster/partition")
    return f" for shop {shop_id}" if shop_id else ""


def _where(run: dg.DagsterRun, at: float) -> str:
    return f"Run {run.run_id[:8]} in the Dagster UI has the log ({datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC)."


def _fields(run: dg.DagsterRun, at: float) -> dict[str, str]:
    shop_id = run.tags.get("dagster/partition")
    fields = {"job": _name(run), "run_id": run.run_id, "at": datetime.fromtimestamp(at, UTC).isoformat()}
    return fields | ({"shop": shop_id} if shop_id else {})


def _kind(*parts: str) -> str:
    """A digest in which numbers do not count: `3 of 10 changes` is the same problem as `4 of 12 changes`."""
    return _digest(re.sub(r"\d+", "0", "\n".join(parts)))


def _digest(what: object) -> str:
    return hashlib.sha256(str(what).encode()).hexdigest()[:16]
