"""Why a number is what it is: stock with the file and line of every unit, each term of what may be promised, what was sent to each
shop and what Shopify answered and showed; for now, or as it was at a moment.

`python -m hotwax_inventory.reconcile.explanation SKU [FACILITY] [AT]` (make explain) says the same in the terminal."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from pydantic import Field

from hotwax_inventory import settings, tables
from hotwax_inventory.layout import WarehouseTooNew, WarehouseTooOld, WarehouseUnusable
from hotwax_inventory.markdown import markdown_cell, markdown_text, plain_cell, table
from hotwax_inventory.publish.target import narrow
from hotwax_inventory.reconcile import provenance, terms
from hotwax_inventory.reconcile.export import write_csv
from hotwax_inventory.reconcile.lookup import AGGREGATE, NothingMoved, NotKnown, find_facility, find_product, last_moved
from hotwax_inventory.reconcile.past import FORGOTTEN, go_back
from hotwax_inventory.reconcile.provenance import Question
from hotwax_inventory.resources import Warehouse, WarehouseBusy

MOST_ROWS = 200


class NotAMoment(ValueError):
    """`as_of` is no time, or is yet to come."""


class ExplainLevel(dg.Config):
    """What is to be explained."""

    product: str | None = Field(None, description="product id, SKU, NetSuite id or UPC; empty: what moved last")
    facility_id: str | None = Field(
        None, description="facility by id, external id or name; _NA_, or empty beside a product: the whole channel"
    )
    facility_group_id: str = Field("FAC_GRP", description="the channel's inventory group, for _NA_")
    as_of: str | None = Field(
        None, description="moment, ISO 8601 such as 2026-11-26T14:00:00-05:00, without a zone UTC; empty: now"
    )


Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Explanation:
    """A sentence, the numbers in it, and the rows that answer each question; `ledger_csv` has every ledger entry."""

    title: str
    sentence: str
    numbers: dict[str, int]
    answers: dict[Question, Rows]
    ledger_csv: Path
    # what every row says, since it was asked for
    given: frozenset[object]

    def render(self, *, is_page: bool) -> str:
        """The whole as Markdown, for an asset's page, or to be read as it is. Columns that say nothing are left out."""
        cell, text = (markdown_cell, markdown_text) if is_page else (plain_cell, str)
        parts = [f"# {text(self.title)}", text(self.sentence)]
        for question, rows in self.answers.items():
            if rows:
                names = question.columns.split(", ")
                told = [
                    i for i in range(len(names)) if any(row[i] is not None and row[i] not in self.given for row in rows)
                ]
                values = [[row[i] for i in told] for row in rows]
                shown = table([names[i] for i in told], values, cell, MOST_ROWS, is_aligned=not is_page)
                parts += [f"## {question.title}", question.meaning, shown]
            elif question.if_empty:
                parts += [f"## {question.title}", question.if_empty]
        return "\n\n".join([*parts, f"Every ledger entry is in {cell(str(self.ledger_csv))}."])


def explain(config: ExplainLevel, warehouse: Warehouse) -> Explanation:
    """Explain the number of a product at a facility, or in a channel. The warehouse is left as it is.

    Raises NotKnown, NotAMoment, WarehouseBusy."""
    moment = _moment(config.as_of)
    with warehouse.connect() as connection:
        connection.begin()
        try:
            return _explain(config, moment, connection)
        finally:
            connection.rollback()


ASKED = """
create or replace temp table asked as
select $product_id as product_id, $facility_id as facility_id, $facility_group_id as facility_group_id,
    $moment::timestamptz as moment
"""
SUBJECT = """
create or replace temp table subject as
select product_id from asked
union
select product_id_to from kit_component where product_id in (select product_id from asked)
"""
EXPLAINED = """
create or replace temp table explained as
select facility_id from asked where facility_id <> '_NA_'
union
select g.facility_id
from facility_group as g
join facility as f on f.facility_id = g.facility_id and f.parent_facility_type_id is distinct from 'VIRTUAL_FACILITY'
cross join asked as a
where a.facility_id = '_NA_'
    and g.facility_group_id = a.facility_group_id
    and coalesce(g.from_date <= a.moment, true)
    and coalesce(g.thru_date > a.moment, true)
"""


# What happened is asked of the tables as they are; the rest of the tables as they are, or were at the moment.
HAPPENED = (provenance.KNOWN_THEN, provenance.WITHOUT_EFFECT, provenance.REFUSED, provenance.RULES, terms.SENT)
IN_ORDER = (
    terms.FACILITY,
    terms.CHANNEL,
    terms.MEMBERS,
    terms.QUEUE,
    terms.COMPONENTS,
    terms.SHOPS,
    terms.SENT,
    provenance.STATE,
    provenance.KNOWN_THEN,
    provenance.LEDGER,
    provenance.WITHOUT_EFFECT,
    provenance.REFUSED,
    provenance.RULES,
)
OF_CHANNEL = (terms.CHANNEL, terms.MEMBERS, terms.QUEUE)


FORGOTTEN_TOO = (
    " Rows of resets that changed nothing when they came have been removed since (RESET_ROWS_KEEP_DAYS): a count that came late "
    "may be missing here."
)


def _explain(config: ExplainLevel, moment: datetime | None, connection: duckdb.DuckDBPyConnection) -> Explanation:
    facility_id = find_facility(config.facility_id or AGGREGATE, connection)
    name = config.product
    if not name:
        name, moved_at = last_moved(None if facility_id == AGGREGATE else facility_id, connection)
        facility_id = facility_id if config.facility_id else moved_at
    product = find_product(name, connection)
    asked = {
        "product_id": product.product_id,
        "facility_id": facility_id,
        "facility_group_id": config.facility_group_id,
        "moment": moment or datetime.now(UTC),
    }
    connection.execute(ASKED, asked)
    for statement in (SUBJECT, EXPLAINED, "create or replace temp table moved as select product_id from subject"):
        connection.execute(statement)
    left_out = {terms.FACILITY} if facility_id == AGGREGATE else set(OF_CHANNEL)
    if moment is None:
        left_out.add(provenance.KNOWN_THEN)
    found = _ask([q for q in HAPPENED if q not in left_out], connection)
    narrow(connection, stock="*")
    is_forgotten = False
    if moment is not None:
        ((is_forgotten,),) = connection.execute(FORGOTTEN, {"moment": moment}).fetchall()
        go_back(moment, connection)
    found |= _ask([q for q in IN_ORDER if q not in found and q not in left_out], connection)
    report = f"explanation-{settings.file_name(product.product_id)}-{settings.file_name(facility_id)}"
    path = write_csv(report, provenance.LEDGER.sql, provenance.LEDGER.columns, connection)
    promise = terms.CHANNEL if facility_id == AGGREGATE else terms.FACILITY
    numbers = _numbers(promise, found[promise]) | {"ledger_entries": len(found[provenance.LEDGER])}
    when = "now" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return Explanation(
        title=f"{product.sku} (product {product.product_id}) at {facility_id}, {when}",
        sentence=_sentence(found[promise], promise, found[terms.SHOPS], asked["moment"])
        + (FORGOTTEN_TOO if is_forgotten else ""),
        numbers=numbers,
        answers={question: found[question] for question in IN_ORDER if question in found},
        ledger_csv=path,
        given=frozenset((product.sku, facility_id)),
    )


def _ask(questions: Sequence[Question], connection: duckdb.DuckDBPyConnection) -> dict[Question, Rows]:
    return {question: connection.execute(question.sql).fetchall() for question in questions}


def _moment(as_of: str | None) -> datetime | None:
    if not as_of:
        return None
    try:
        moment = datetime.fromisoformat(as_of.strip())
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise NotAMoment(
            f"as_of takes a time in ISO 8601 such as 2026-11-26T14:00:00-05:00 or 2026-11-26 (it is {as_of!r})."
        ) from None
    if moment > datetime.now(UTC):
        raise NotAMoment(f"as_of {as_of} is yet to come. Leave it empty for now.")
    return moment


def _numbers(question: Question, rows: Rows) -> dict[str, int]:
    """The terms of the number that are numbers, by their names; of the first store where a channel has several."""
    found = zip(question.columns.split(", "), rows[0], strict=True) if rows else ()
    return {name.replace(" ", "_"): value for name, value in found if isinstance(value, int)}


def _sentence(promise: Rows, question: Question, shops: Rows, moment: datetime) -> str:
    """The number, how it is made, and what Shopify showed until then."""
    if not promise:
        return question.if_empty
    if question is terms.FACILITY:
        _, atp, minimum_stock, computed, _ = promise[0]
        said = [f"{computed} may be promised: ATP {atp}, minimum stock {minimum_stock}."]
    else:
        said = [
            f"{online} may be promised by {store}: base {base}, threshold {threshold}, queue {queue}"
            + (", brokering is off" if brokering == "N" else "")
            + (", pre-orders hold the stock" if hold == "Y" else "")
            + (", raw is below 0" if isinstance(raw, int) and raw < 0 else "")
            + "."
            for _, store, base, raw, threshold, queue, brokering, hold, online in promise
        ]
    for shop, _, _, _, shown, _, _, read_at, published, published_at, _ in shops:
        if shown is not None and read_at <= moment:
            said.append(f"Shop {shop} showed {shown} when it was read at {plain_cell(read_at)}.")
        if published is not None and published_at <= moment:
            said.append(f"Shop {shop} last had {published} from us, at {plain_cell(published_at)}.")
    return " ".join(said)


@dg.asset(
    group_name="reconcile",
    kinds={"duckdb"},
    deps=["inventory_item_detail", "facility_atp", "online_atp", "hard_sync_upload", "recent_change_upload"],
    metadata=tables.INVENTORY_ITEM_DETAIL.metadata,
)
def inventory_explanation(config: ExplainLevel, warehouse: Warehouse) -> dg.MaterializeResult:
    """One ledger entry behind a number: file and line, run and reason; and beside it all that makes the number what it is."""
    try:
        found = explain(config, warehouse)
    except NothingMoved as error:
        return dg.MaterializeResult(metadata={"explanation": markdown_text(str(error)), "dagster/row_count": 0})
    return dg.MaterializeResult(
        metadata={
            "asked": found.title,
            "explanation": dg.MetadataValue.md(found.render(is_page=True)),
            "ledger_csv": dg.MetadataValue.path(str(found.ledger_csv)),
            "dagster/row_count": found.numbers["ledger_entries"],
            **found.numbers,
        }
    )


def main() -> int:
    """Explain in the terminal; 2 when there is nothing to explain."""
    settings.load_env_file()
    arguments = dict(zip(("product", "facility_id", "as_of"), sys.argv[1:], strict=False))
    try:
        found = explain(ExplainLevel(**{name: value for name, value in arguments.items() if value}), Warehouse())
    except (
        NotKnown,
        NotAMoment,
        WarehouseBusy,
        WarehouseUnusable,
        WarehouseTooNew,
        WarehouseTooOld,
        settings.SettingError,
    ) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(found.render(is_page=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
