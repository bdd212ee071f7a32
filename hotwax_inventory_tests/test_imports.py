"""Files as they come, good and bad, and what the import makes of them."""

import csv
import gzip
import io
import time
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hotwax_inventory.imports import decoding, queue, reading, rows
from hotwax_inventory.ledger import entries
from hotwax_inventory.resources import Warehouse
from hotwax_inventory_tests.conftest import REFERENCE, Place

HEADER = "Item,externalFacilityId,availableQty,idValue\n"
# two plain rows, and what they mean
ROWS = "TEE-S,43,10,501\nTEE-M,116,4,502\n"
TWO = [(2, "10001", "WAREHOUSE", 10), (3, "10002", "BROADWAY", 4)]


@dataclass(frozen=True)
class Case:
    """A file: its accepted rows (line, product, facility, quantity) and refused rows (line, column, reason), or its failure."""

    content: str | bytes
    accepted: list[tuple[int, str, str, int]]
    refused: list[tuple[int, str | None, str]]
    ignored: int = 0
    failure: str | None = None

    @property
    def outcome(self) -> tuple[object, ...]:
        status = "failed" if self.failure else "finished_with_errors" if self.refused else "finished"
        total = len(self.accepted) + len(self.refused) + self.ignored
        return status, self.failure, self.accepted, self.refused, (total, len(self.refused), self.ignored)


def accepted(content: str | bytes, *rows: tuple[int, str, str, int], ignored: int = 0) -> Case:
    return Case(content, list(rows), [], ignored)


def refused(
    content: str | bytes, *rows: tuple[int, str | None, str], good: list[tuple[int, str, str, int]] | None = None
) -> Case:
    return Case(content, good or [], list(rows))


def failed(content: str | bytes, message: str) -> Case:
    return Case(content, [], [], failure=message)


def one(quantity: str, column: str = "availableQty", reason: str = "") -> Case:
    """A file of one row with this quantity: accepted as 5, or refused for the reason."""
    content = HEADER + f"TEE-S,43,{quantity},501\n"
    return refused(content, (2, column, reason)) if reason else accepted(content, (2, "10001", "WAREHOUSE", 5))


ENCODINGS = {
    "utf-8": accepted(HEADER + "Größe S,43,10,501\nTEE-M,116,4,502\n", *TWO),
    "utf-8 with bom": accepted(b"\xef\xbb\xbf" + (HEADER + ROWS).encode(), *TWO),
    "bom before a quoted header": accepted(
        '﻿"externalFacilityId","availableQty","idValue"\n43,10,501\n', (2, "10001", "WAREHOUSE", 10)
    ),
    "utf-16 little endian": accepted(b"\xff\xfe" + (HEADER + ROWS).encode("utf-16-le"), *TWO),
    "utf-16 big endian": accepted(b"\xfe\xff" + (HEADER + ROWS).encode("utf-16-be"), *TWO),
    "utf-16 cut in a character": failed(
        b"\xff\xfe" + (HEADER + ROWS).encode("utf-16-le") + b"\x41", "neither UTF-8, UTF-16"
    ),
    "utf-16 without bom": failed((HEADER + ROWS).encode("utf-16-le"), "NUL byte at offset 1"),
    "utf-32": failed((HEADER + ROWS).encode("utf-32"), "NUL"),
    "windows-1252": accepted((HEADER + "Größe S,43,10,501\nTEE-M,116,4,502\n").encode("cp1252"), *TWO),
    "no encoding at all": failed(HEADER.encode() + b"TEE\x81,43,10,501\n", "neither UTF-8, UTF-16"),
    "nul": failed(HEADER.encode() + b"TEE\0S,43,10,501\n", "NUL byte at offset 48"),
    "nuls at the end": failed((HEADER + ROWS).encode() + bytes(512), "NUL byte at offset 77"),
    "nul inside quotes": failed(HEADER.encode() + b'"TEE\0S",43,10,501\n', "NUL byte"),
    "crlf": accepted((HEADER + ROWS).replace("\n", "\r\n"), *TWO),
    "cr only": accepted((HEADER + ROWS).replace("\n", "\r"), *TWO),
    "crlf after a header with lf": accepted(HEADER + ROWS.replace("\n", "\r\n"), *TWO),
    "lf after a header with crlf": accepted(HEADER.replace("\n", "\r\n") + ROWS, *TWO),
    "all three line ends": accepted(
        HEADER + "TEE-S,43,10,501\r\nTEE-M,116,4,502\rTEE-L,43,7,503\n", *TWO, (4, "10003", "WAREHOUSE", 7)
    ),
    "no line end at the end": accepted((HEADER + ROWS).rstrip("\n"), *TWO),
}

LINES = {
    "empty": failed("", "The file is empty: not even a header."),
    "only a bom": failed(b"\xef\xbb\xbf", "The file is empty: not even a header."),
    "only line ends": failed("\n\r\n\n", "The file is empty: not even a header."),
    "header only": accepted(HEADER),
    "header only, without line end": accepted(HEADER.rstrip("\n")),
    "header only, cr": accepted(HEADER.replace("\n", "\r")),
    "blank lines before the header": accepted(
        "\n\n" + HEADER + ROWS, (4, "10001", "WAREHOUSE", 10), (5, "10002", "BROADWAY", 4)
    ),
    "blanks before the header": accepted(
        "  \t\n" + HEADER + ROWS, (3, "10001", "WAREHOUSE", 10), (4, "10002", "BROADWAY", 4)
    ),
    "bom and a blank line": accepted("﻿\n" + HEADER + ROWS, (3, "10001", "WAREHOUSE", 10), (4, "10002", "BROADWAY", 4)),
    "blank lines between": accepted(
        HEADER + "\nTEE-S,43,10,501\n\n\nTEE-M,116,4,502\n\n",
        (3, "10001", "WAREHOUSE", 10),
        (6, "10002", "BROADWAY", 4),
    ),
    "blank lines of crlf": accepted(
        (HEADER + "\nTEE-S,43,10,501\n\n").replace("\n", "\r\n"), (3, "10001", "WAREHOUSE", 10)
    ),
    "lines of blanks": accepted(
        HEADER + "   \nTEE-S,43,10,501\n\t \nTEE-M,116,4,502\n ",
        (3, "10001", "WAREHOUSE", 10),
        (5, "10002", "BROADWAY", 4),
    ),
    "lines of commas are rows": refused(
        HEADER + ",,,\nTEE-S,43,10,501\n",
        (2, "externalFacilityId", "the row names no facility"),
        good=[(3, "10001", "WAREHOUSE", 10)],
    ),
    "short rows": refused(
        HEADER + "TEE-S,43,10\nTEE-M\nTEE-M,116,4,502\nTEE-L,4",
        (2, None, "the row has fewer fields than the header (4)"),
        (3, None, "the row has fewer fields than the header (4)"),
        (5, None, "the row has fewer fields than the header (4)"),
        good=[(4, "10002", "BROADWAY", 4)],
    ),
    "long rows": refused(
        HEADER + "TEE-S,43,1,000,501\nTEE-M,116,4,502\nTEE-L,43,7,503,,,\n",
        (2, None, "the row has more fields than the header (4)"),
        (4, None, "the row has more fields than the header (4)"),
        good=[(3, "10002", "BROADWAY", 4)],
    ),
    "every row refused": refused(
        HEADER + "TEE-S,43,ten,501\nTEE-S,44,10,501\n",
        (2, "availableQty", "the quantity is not a whole number: ten"),
        (3, "externalFacilityId", "Could not find facility with external ID 44"),
    ),
    "a field of 200,000 characters": accepted(HEADER + "X" * 200_000 + ",43,10,501\n", (2, "10001", "WAREHOUSE", 10)),
    "a quoted field of 200,000 characters": accepted(
        HEADER + f'"{"X" * 200_000}",43,11,501\n', (2, "10001", "WAREHOUSE", 11)
    ),
}

QUOTES = {
    "everything quoted": accepted(
        '"Item","externalFacilityId","availableQty","idValue"\n"TEE-S","43","10","501"\n', (2, "10001", "WAREHOUSE", 10)
    ),
    "a comma inside": accepted(HEADER + '"TEE, S",43,10,501\n', (2, "10001", "WAREHOUSE", 10)),
    "escaped quotes": accepted(HEADER + '"TEE ""S""",43,10,501\n', (2, "10001", "WAREHOUSE", 10)),
    "a stray quote": accepted(HEADER + 'TEE 5",43,10,501\nTEE-M,116,4,502\n', *TWO),
    "line ends inside": refused(
        HEADER + '"TEE\nS",43,10,501\n"T\r\nE\r\nE",116,4,502\nTEE-L,43,x,503\n"TEE\n\nL",43,7,503\n',
        (7, "availableQty", "the quantity is not a whole number: x"),
        good=[(2, "10001", "WAREHOUSE", 10), (4, "10002", "BROADWAY", 4), (8, "10003", "WAREHOUSE", 7)],
    ),
    "a line feed inside a cell of a spreadsheet's file": accepted(
        HEADER.replace("\n", "\r\n") + '"TEE\nS",43,10,501\r\nTEE-M,116,4,502\r\n',
        (2, "10001", "WAREHOUSE", 10),
        (4, "10002", "BROADWAY", 4),
    ),
    "lines of two kinds, one of them quoted": refused(
        HEADER + '"TEE-S",43,10,501\r\nTEE-M,116,4,502\nTEE-L,43,x,503\r\n',
        (4, "availableQty", "the quantity is not a whole number: x"),
        good=TWO,
    ),
    "a line end inside the header": accepted(
        'Item,"external\nFacilityId",availableQty,idValue\nTEE-S,43,10,501\n', (3, "10001", "WAREHOUSE", 10)
    ),
    "unclosed at the end": failed(HEADER + 'TEE-M,116,4,502\nTEE-S,43,10,"501\n', "quote that opens in line 3"),
    "unclosed in the middle": failed(HEADER + '"TEE-S,43,10,501\nTEE-M,116,4,502\n', "quote that opens in line 2"),
    "unclosed before a quoted row": failed(
        HEADER + '"TEE-S,43,10,501\n"TEE-M",116,4,502\nTEE-L,43,7,503\n', "quote that opens in line 2"
    ),
    "unclosed before a quoted field": failed(
        HEADER + 'TEE-S,43,10,"501\nTEE-M,116,4,"502"\nTEE-L,43,7,503\n', "quote that opens in line 2"
    ),
}


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("[Content_Types].xml", content)
    return packed.getvalue()


CONTAINERS = {
    "gzip": accepted(gzip.compress((HEADER + ROWS).encode()), *TWO),
    "gzip of utf-16": accepted(gzip.compress(b"\xff\xfe" + (HEADER + ROWS).encode("utf-16-le")), *TWO),
    "gzip cut short": failed(gzip.compress((HEADER + ROWS).encode())[:-6], "The gzip file is damaged"),
    "gzip and rubbish": failed(gzip.compress((HEADER + ROWS).encode()) + b"rubbish", "The gzip file is damaged"),
    "gzip of nothing": failed(gzip.compress(b""), "The gzip file is empty inside."),
    "gzip bomb": failed(gzip.compress((HEADER + "TEE-S,43,10,501\n" * 500_000).encode()), "inflates to more than"),
    "xlsx": failed(zipped(b"<Types/>"), "spreadsheet or a zip archive"),
    "xls": failed(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(64), "NUL byte at offset 8"),
    "html": failed("<html><body>502 Bad Gateway</body></html>\n", "Column availableQty is missing"),
}

QUANTITIES = {
    "5": one("5"),
    "5.0": one("5.0"),
    "5.000": one("5.000"),
    "blanks around": one(" 5 "),
    "a tab before": one("\t5"),
    "non-breaking blanks around": one("\u00a05\u00a0"),
    "leading zeros": one("005"),
    "quoted": one('"5"'),
    "-3": accepted(HEADER + "TEE-S,43,-3,501\n", (2, "10001", "WAREHOUSE", -3)),
    "-0": accepted(HEADER + "TEE-S,43,-0,501\n", (2, "10001", "WAREHOUSE", 0)),
    "2000000000": accepted(HEADER + "TEE-S,43,2000000000,501\n", (2, "10001", "WAREHOUSE", 2_000_000_000)),
    "-2000000000": accepted(HEADER + "TEE-S,43,-2000000000,501\n", (2, "10001", "WAREHOUSE", -2_000_000_000)),
    "2000000001": one("2000000001", reason="the quantity is beyond 2,000,000,000: 2000000001"),
    "-2000000001": one("-2000000001", reason="the quantity is beyond 2,000,000,000: -2000000001"),
    "2147483648": one("2147483648", reason="the quantity is beyond 2,000,000,000: 2147483648"),
    "empty": one("", reason="the quantity is empty"),
    "blank": one("  ", reason="the quantity is empty"),
    **{
        text: one(f'"{text}"', reason=f"the quantity is not a whole number: {text}")
        for text in [
            *(
                "1,000",
                "1.000,0",
                "1'000",
                "1e3",
                "5.",
                "5.5",
                "+5",
                "--5",
                "NaN",
                "inf",
                "0x10",
                "1_000",
                "=5",
                "five",
            ),
            *("null", "5 0", "٥", "５", "²", "9223372036854775808", "99999999999999999999"),
        ]
    },
}

HEADERS = {
    "variant 1, NetSuite's saved search": accepted(
        "Item,externalFacilityId,availableQty,idValue\n051-0221-G,43,6,501\n", (2, "10001", "WAREHOUSE", 6)
    ),
    "variant 2, reset API": accepted(
        "facilityId,locationSeqId,idType,idValue,availableQty,externalFacilityId,productId,comments\n"
        "BROADWAY,TLTLTLLL01,sku,TEE-S,20,,,\n"
        "BROOKLYN,TLTLTLLL01,,,21,,10002,two, or more\n",
        (2, "10001", "BROADWAY", 20),
        (3, "10002", "BROOKLYN", 21),
    ),
    "variant 3, capitalised": refused(
        "FacilityId,IdType,IdValue,AvailableQty,LocationSeqId\n"
        "BROADWAY,Shopify Product Id,SKU12345,20,TLTLTLLL01\n"
        "BROADWAY,NetSuite Product Id,501,22,TLTLTLLL01\n",
        (
            2,
            "IdType",
            "Product identification type Shopify Product Id is not known; use NETSUITE_PRODUCT_ID, SKU or UPCA",
        ),
        good=[(3, "10001", "BROADWAY", 22)],
    ),
    "variant 4, Import app": accepted(
        "facilityId,externalFacilityId,idValue,idType,locationSeqId,comments,resetByAtp,availableQty\n"
        "BROADWAY,,840001,UPCA,TLTLTLLL01,counted,true,23\n"
        ",281,TEE-M,SKU,,,false,24\n",
        (2, "10001", "BROADWAY", 23),
        (3, "10002", "BROOKLYN", 24),
    ),
    "variant 5, field list": accepted(
        "productId,idValue,facilityId,locationSeqId,quantity,reason,comments\n10001,,BROADWAY,,25,RECOUNT,\n",
        (2, "10001", "BROADWAY", 25),
    ),
    "variant 6, connector service": accepted(
        "externalFacilityId,quantity,netsuiteProductId,productId,facilityId,resetBy\n116,26,501,,,ATP\n,27,,10002,BROADWAY,QOH\n",
        (2, "10001", "BROADWAY", 26),
        (3, "10002", "BROADWAY", 27),
    ),
    "variant 7, cycle count": accepted(
        "facilityId,externalFacilityId,idValue,idType,locationSeqId,comments,quantity\n"
        "BROADWAY,,501,netsuiteProductId,,shelf 4,28\n",
        (2, "10001", "BROADWAY", 28),
    ),
    "any order, with strangers": accepted(
        "idValue,colour,availableQty,,externalFacilityId\n501,red,6,,43\n", (2, "10001", "WAREHOUSE", 6)
    ),
    "snake": accepted("external_facility_id,available_qty,id_value\n43,6,501\n", (2, "10001", "WAREHOUSE", 6)),
    "hyphens": accepted("external-facility-id,available-qty,id-value\n43,6,501\n", (2, "10001", "WAREHOUSE", 6)),
    "spaces": accepted(" External Facility Id , Available Qty , Id Value \n43,6,501\n", (2, "10001", "WAREHOUSE", 6)),
    "capitals": accepted("EXTERNALFACILITYID,AVAILABLEQTY,IDVALUE\n43,6,501\n", (2, "10001", "WAREHOUSE", 6)),
    "a quote in a name": refused(
        "externalFacilityId,available'Qty,idValue\n43,x,501\n",
        (2, "available'Qty", "the quantity is not a whole number: x"),
    ),
    "a column twice": failed(
        "Item,externalFacilityId,availableQty,availableQty,idValue\nT,43,1,2,501\n",
        "names a column twice: availableqty",
    ),
    "two names of one column": failed(
        "externalFacilityId,availableQty,quantity,idValue\n43,1,2,501\n", "availableQty and quantity mean the same"
    ),
    "two spellings of one column": failed(
        "facilityId,facility-id,quantity,idValue\nBROADWAY,BROADWAY,2,501\n", "facilityId and facility-id mean the same"
    ),
    "no quantity": failed(
        "Item,externalFacilityId,idValue\nTEE-S,43,501\n",
        "Column availableQty is missing (found: Item, externalFacilityId, idValue).",
    ),
    "no facility": failed(
        "Item,availableQty,idValue\nTEE-S,1,501\n", "Column facilityId or externalFacilityId is missing"
    ),
    "no product": failed(
        "Item,externalFacilityId,availableQty\nTEE-S,43,1\n",
        "Column productId or netsuiteProductId or idValue is missing",
    ),
    "no header": failed("TEE-S,43,10,501\nTEE-M,116,4,502\n", "is missing (found: TEE-S, 43, 10, 501)"),
    "semicolons": failed(
        "Item;externalFacilityId;availableQty;idValue\nTEE-S;43;10;501\n", "Column availableQty is missing"
    ),
    "html in the header": failed("<b>a</b>,quantity\n1,2\n", "is missing (found: <b>a</b>, quantity)"),
}

BOBBY = "'); drop table inventory_item; --"
VALUES = {
    "unknown product": refused(
        HEADER + "TEE-S,43,1,999\n",
        (2, "idValue", "Could not find product with ident type NETSUITE_PRODUCT_ID and value 999"),
    ),
    "ids are text": refused(
        HEADER + "TEE-S,43,1,0501\nTEE-S,043,1,501\nTEE-S,43,1,501.0\n",
        (2, "idValue", "Could not find product with ident type NETSUITE_PRODUCT_ID and value 0501"),
        (3, "externalFacilityId", "Could not find facility with external ID 043"),
        (4, "idValue", "Could not find product with ident type NETSUITE_PRODUCT_ID and value 501.0"),
    ),
    "no product": refused(HEADER + "TEE-S,43,1,\n", (2, "idValue", "the row names no product")),
    "no facility": refused(HEADER + "TEE-S, ,1,501\n", (2, "externalFacilityId", "the row names no facility")),
    "unknown facility": refused(
        "facilityId,externalFacilityId,quantity,idValue\nGONE,43,1,501\n,999,1,501\n",
        (2, "facilityId", "Could not find facility with ID GONE"),
        (3, "externalFacilityId", "Could not find facility with external ID 999"),
    ),
    "virtual facility": refused(
        "facilityId,externalFacilityId,quantity,idValue\nCONFIGURATION,,1,501\n,900,1,501\n_NA_,,1,501\n",
        (2, "facilityId", "Facility [ID: CONFIGURATION] is virtual facility."),
        (3, "externalFacilityId", "Facility [ID: PARKING] is virtual facility."),
        (4, "facilityId", "Facility [ID: _NA_] is virtual facility."),
    ),
    "a kit needs nobody": accepted(
        HEADER + "GIFT-KIT,43,7,509\nTEE-S,43,8,501\n", (3, "10001", "WAREHOUSE", 8), ignored=1
    ),
    "sql": refused(
        f'facilityId,quantity,idValue,"{BOBBY}",comments\nBROADWAY,1,"{BOBBY}",,\nBROADWAY,7,501,,{BOBBY}\n"{BOBBY}",1,501,,\n',
        (2, "idValue", f"Could not find product with ident type NETSUITE_PRODUCT_ID and value {BOBBY}"),
        (4, "facilityId", f"Could not find facility with ID {BOBBY}"),
        good=[(3, "10001", "BROADWAY", 7)],
    ),
    "markup": refused(
        HEADER + "<b>|`,43,1,<script>|`\n",
        (2, "idValue", "Could not find product with ident type NETSUITE_PRODUCT_ID and value <script>|`"),
    ),
    "formulas": refused(
        HEADER + "=cmd|x,43,=1+1,501\n", (2, "availableQty", "the quantity is not a whole number: =1+1")
    ),
    "control characters": accepted(HEADER + "a\x1cb\x1ec\x1fd\x7f,43,9,501\n", (2, "10001", "WAREHOUSE", 9)),
    "non-breaking blanks": accepted(HEADER + "TEE-S,\u00a043\u00a0,9,\u00a0501 \n", (2, "10001", "WAREHOUSE", 9)),
    "emoji": accepted(HEADER + "👕,43,9,501\n", (2, "10001", "WAREHOUSE", 9)),
}


@pytest.mark.parametrize("is_large", [False, True], ids=["", "as large files"])
@pytest.mark.parametrize(
    "cases",
    [ENCODINGS, LINES, QUOTES, CONTAINERS, QUANTITIES, HEADERS, VALUES],
    ids=["encodings", "lines", "quotes", "containers", "quantities", "headers", "values"],
)
def test_every_file_ends_as_the_corpus_says(
    place: Place, monkeypatch: pytest.MonkeyPatch, cases: dict[str, Case], is_large: bool
) -> None:
    monkeypatch.setattr(decoding, "ALWAYS_INFLATED_BYTES", 1 << 20)
    if is_large:  # which are imported one by one, in parts
        monkeypatch.setattr(queue, "BATCH_BYTES", 0)
        monkeypatch.setattr(rows, "PART_ROWS", 1)
        monkeypatch.setattr(rows, "PARTS", 3)
    names = {f"case {number}.csv": name for number, name in enumerate(cases)}
    for file_name, name in names.items():
        place.put_reset(file_name, cases[name].content)
    run = place.run("import_inventory")
    seen = {names[file_name]: outcome for file_name, outcome in outcomes(place).items()}
    expected = {name: case.outcome for name, case in cases.items()}
    assert {name: shortened(seen[name], case.failure) for name, case in cases.items()} == expected
    assert run.success == (not any(case.failure for case in cases.values()))
    told = {names[file_name]: reasons for file_name, reasons in failed_records(place).items()}
    assert told == {name: [row[2] for row in case.refused] for name, case in cases.items() if case.refused}


def outcomes(place: Place) -> dict[str, tuple[Any, ...]]:
    """{file name: (status, message, accepted rows, refused rows, (rows, refused, ignored))}"""
    rows = place.rows(
        """
        select file_name, status_id, message,
            (select coalesce(list((line_number, product_id, facility_id, quantity) order by line_number), [])
                from inventory_reset as r where r.log_id = l.log_id),
            (select coalesce(list((line_number, column_name, reason) order by line_number), [])
                from data_manager_error as e where e.log_id = l.log_id),
            (total_record_count, failed_record_count, ignored_record_count)
        from data_manager_log as l
        """
    )
    return {row[0]: row[1:] for row in rows}


def shortened(seen: tuple[Any, ...], piece: str | None) -> tuple[Any, ...]:
    """What was seen, with the expected piece in the place of the message if it is in there."""
    status, message, *rest = seen
    if status == "finished":
        return status, None, *rest
    return status, piece if piece and message and piece in message else message, *rest


def failed_records_files(place: Place) -> list[Path]:
    return sorted((place.home / "landing" / "RESET_INVENTORY").glob("*-failed-records-*.csv"))


def failed_records(place: Place) -> dict[str, list[str]]:
    """{file name: reasons in its failed-records file}, each row having as many fields as the header."""
    names = dict(place.rows("select log_id::varchar, file_name from data_manager_log"))
    found = {}
    for path in failed_records_files(place):
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert header[-1] == "reason"
        found[names[path.stem.rsplit("-", 1)[1]]] = [row[-1] for row in rows]
    return found


def checks(run: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {evaluation.check_name: evaluation for evaluation in run.get_asset_check_evaluations()}


def damaged_gzip() -> bytes:
    """A gzip file whose compressed data, not only their checksum, are wrong."""
    content = bytearray(gzip.compress((HEADER + "".join(f"TEE-S,43,{i},501\n" for i in range(3000))).encode()))
    content[20] ^= 0x55
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Item,externalFacilityId,idValue\nTEE-S,43,501\n", "Column availableQty is missing"),
        (HEADER.encode() + b"TEE-S,43,\0,501\n", "NUL byte at offset 54"),
        (damaged_gzip(), "The gzip file is damaged"),
        (HEADER.encode() + b"X" * 3_000_000 + b",43,10,501\n", "line"),
    ],
    ids=["no quantity", "nul", "damaged gzip", "endless line"],
)
def test_a_bad_file_fails_alone_and_turns_the_run_red(place: Place, content: bytes, reason: str) -> None:
    now = int(time.time())
    place.put_reset("first.csv", HEADER + "TEE-S,43,10,501\n", now - 3)
    place.put_reset("second.csv", content, now - 2)
    place.put_reset("third.csv", HEADER + "TEE-M,43,4,502\n", now - 1)
    run = place.run("import_inventory")
    assert not run.success
    assert place.logs() == [
        ("first.csv", "finished", 1, 0, 0),
        ("second.csv", "failed", 0, 0, 0),
        ("third.csv", "finished", 1, 0, 0),
    ]
    assert place.stock() == {("10001", "WAREHOUSE"): (10, 10), ("10002", "WAREHOUSE"): (4, 4)}
    assert not checks(run)["files_readable"].passed
    for text in (checks(run)["files_readable"].description or "", place.failure(run)):
        assert "second.csv" in text
        assert reason in text
    assert place.run("import_inventory").success, "the failed file is not tried again"


def test_refused_rows_and_files_without_rows_only_warn(place: Place) -> None:
    place.put_reset("good.csv", HEADER + "TEE-S,43,10,501\n")
    assert checks(place.run("import_inventory"))["rows_accepted"].passed
    for name, content in {"refused.csv": HEADER + "TEE-S,43,ten,501\n", "hollow.csv": HEADER}.items():
        place.put_reset(name, content)
        run = place.run("import_inventory")
        assert run.success
        assert not checks(run)["rows_accepted"].passed
        assert checks(run)["rows_accepted"].severity == dg.AssetCheckSeverity.WARN
        assert checks(run)["files_readable"].passed
    assert place.logs()[1:] == [("refused.csv", "finished_with_errors", 1, 1, 0), ("hollow.csv", "finished", 0, 0, 0)]


def test_values_from_files_are_no_markup_in_the_ui(place: Place) -> None:
    place.put_reset("markup.csv", HEADER + "<b>|`,43,<img src=x>|`,501\n")
    (materialization,) = place.run("import_inventory").asset_materializations_for_node("inventory_reset")
    assert materialization.metadata["first_refused_rows"].value == (
        "| file | line | column | reason | row |\n| --- | --- | --- | --- | --- |\n"
        "| `markup.csv` | 2 | `availableQty` | `the quantity is not a whole number: <img src=x>¦'` | `<b>¦',43,<img src=x>¦',501` |"
    )


def test_the_run_config_speaks_for_rows_that_say_nothing(place: Place) -> None:
    place.put_reset(
        "by atp.csv",
        "facilityId,idValue,idType,quantity,resetByAtp,locationSeqId\n"
        "BROADWAY,TEE-S,,1,,\nBROADWAY,501,netsuite_product_id,2,TRUE,A1\nBROADWAY,TEE-S,,3,false,\n"
        "BROADWAY,TEE-S,,4,Y,\nBROADWAY,TEE-S,,5,n,\nBROADWAY,TEE-S,,6,maybe,\n",
    )
    place.put_reset(
        "by.csv",
        "facilityId,idValue,quantity,resetBy\nBROADWAY,TEE-M,1,\nBROADWAY,TEE-M,2,atp\nBROADWAY,TEE-M,3,QOH\nBROADWAY,TEE-M,4,AFS\n"
        "BROADWAY,TEE-M,5,ATP&QOH\n",
    )
    config = {"reset_by": "QOH", "id_type": "SKU", "location_seq_id": "TLTLTLLL01"}
    assert place.run("import_inventory", {"inventory_reset": config}).success
    stated = place.rows("select product_id, quantity, reset_by, location_seq_id from inventory_reset order by 1, 2")
    assert stated == [
        ("10001", 1, "QOH", "TLTLTLLL01"),
        ("10001", 2, "ATP", "A1"),
        ("10001", 3, "QOH", "TLTLTLLL01"),
        ("10001", 4, "ATP", "TLTLTLLL01"),
        ("10001", 5, "QOH", "TLTLTLLL01"),
        ("10002", 1, "QOH", "TLTLTLLL01"),
        ("10002", 2, "ATP", "TLTLTLLL01"),
        ("10002", 3, "QOH", "TLTLTLLL01"),
        ("10002", 5, "QOH", "TLTLTLLL01"),
    ]
    assert place.rows("select line_number, column_name, reason from data_manager_error order by 1") == [
        (5, "resetBy", "resetBy takes ATP or QOH, not AFS"),
        (7, "resetByAtp", "resetByAtp takes true or false, not maybe"),
    ]


def test_a_value_of_several_products_or_facilities_names_none(place: Place) -> None:
    place.write_reference("product", REFERENCE["product"] + "10004,TEE-S,,00123,,\n10005,TEE-XS,,123,840002,\n")
    place.write_reference("facility", REFERENCE["facility"] + "QUEENS,43,,,,STORE\n")
    assert place.run("load_reference").success
    place.put_reset(
        "ambiguous.csv",
        "facilityId,externalFacilityId,idType,idValue,quantity\n"
        "BROADWAY,,SKU,TEE-S,1\nBROADWAY,,UPCA,840002,1\n,43,SKU,TEE-L,1\n"
        "QUEENS,,NETSUITE_PRODUCT_ID,00123,4\nQUEENS,43,NETSUITE_PRODUCT_ID,123,5\nQUEENS,,NETSUITE_PRODUCT_ID,0123,6\n",
    )
    assert place.run("import_inventory").success
    assert place.stock() == {("10004", "QUEENS"): (4, 4), ("10005", "QUEENS"): (5, 5)}
    assert place.rows("select line_number, column_name, reason from data_manager_error order by 1") == [
        (2, "idValue", "More than one product has SKU TEE-S"),
        (3, "idValue", "More than one product has UPCA 840002"),
        (4, "externalFacilityId", "More than one facility has external ID 43"),
        (7, "idValue", "Could not find product with ident type NETSUITE_PRODUCT_ID and value 0123"),
    ]


def test_kits_are_products_where_netsuite_counts_them(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIT_INVENTORY", "netsuite")
    place.put_reset("kits.csv", HEADER + "GIFT-KIT,43,7,509\n")
    assert place.run("import_inventory").success
    assert place.stock() == {("10009", "WAREHOUSE"): (7, 7)}


def test_refused_rows_mended_and_dropped_back_act_at_the_time_of_their_first_file(place: Place) -> None:
    morning, noon = (datetime.fromtimestamp(int(time.time()) - hours * 3600, UTC) for hours in (2, 1))
    place.put_reset("morning.csv", HEADER + 'TEE-S,43,ten,501\n"TEE, ""M""",43,"1,000",502\nTEE-L,43,6,503\n', morning)
    place.put_reset("noon.csv", HEADER + "TEE-S,43,8,501\nTEE-L,43,5,503\n", noon)
    assert place.run("import_inventory").success
    (refused_rows,) = failed_records_files(place)
    assert refused_rows.name.startswith(morning.strftime("%Y%m%dT%H%M%S"))
    assert refused_rows.read_text() == (
        "Item,externalFacilityId,availableQty,idValue,reason\n"
        'TEE-S,43,ten,501,"the quantity is not a whole number: ten"\n'
        '"TEE, ""M""",43,"1,000",502,"the quantity is not a whole number: 1,000"\n'
    )
    mended = refused_rows.read_text().replace(",ten,", ",10,").replace(',"1,000",', ",1000,")
    place.put_reset(refused_rows.name, mended)
    assert place.run("import_inventory").success
    assert place.logs()[2] == (refused_rows.name, "finished", 2, 0, 0)
    assert place.stock() == {
        ("10001", "WAREHOUSE"): (8, 8),
        ("10002", "WAREHOUSE"): (1000, 1000),
        ("10003", "WAREHOUSE"): (5, 5),
    }
    entered = place.rows("select distinct effective_at from inventory_item_detail where product_id = '10002'")
    assert entered == [(morning,)]


def test_rows_may_be_mended_in_several_rounds(place: Place) -> None:
    place.put_reset("reset.csv", HEADER + "TEE-S,43,a,501\nTEE-M,43,b,502\nTEE-L,43,c,503\n")
    for letter, quantity in {"a": "1", "b": "2", "c": "3"}.items():
        assert place.run("import_inventory").success
        newest = max(failed_records_files(place), key=lambda path: int(path.stem.rsplit("-", 1)[1]))
        lines = newest.read_text().splitlines()
        assert lines[0] == "Item,externalFacilityId,availableQty,idValue,reason"
        place.put_reset(newest.name, newest.read_text().replace(f",{letter},", f",{quantity},"))
    assert place.run("import_inventory").success
    assert place.stock() == {
        ("10001", "WAREHOUSE"): (1, 1),
        ("10002", "WAREHOUSE"): (2, 2),
        ("10003", "WAREHOUSE"): (3, 3),
    }


def test_a_landed_copy_that_was_cut_is_not_taken_for_the_file(place: Place) -> None:
    content = f"{HEADER}{ROWS}"
    place.put_reset("reset.csv", content)
    place.succeed("import_inventory", {"inventory_reset": {"schedule_now": False}})
    (landed,) = (place.home / "landing" / "RESET_INVENTORY").glob("*.csv")
    landed.write_text(content.removesuffix("TEE-M,116,4,502\n"))
    assert not place.run("process_bulk_imported_files").success
    ((message,),) = place.rows("select message from data_manager_log")
    assert f"has {len(content) - 16} bytes instead of {len(content)}. Send the file again." in message
    assert place.stock() == {}
    place.put_reset("reset.csv", content)
    place.succeed("import_inventory")
    assert place.stock() == {("10001", "WAREHOUSE"): (10, 10), ("10002", "BROADWAY"): (4, 4)}


def test_others_have_their_turn_between_the_files_of_a_backlog(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "BATCH_FILES", 1)
    monkeypatch.setattr(entries, "BATCH_ROWS", 1)
    for number in range(4):
        place.put_reset(f"{number}.csv", f"{HEADER}TEE-S,43,{number + 1},501\n")
    waiting: list[dict[str, int]] = []

    def others(warehouse: Warehouse) -> None:
        with Warehouse(wait_seconds=0).transaction() as connection:
            found = connection.execute("select status_id, count(*) from data_manager_log group by all").fetchall()
        waiting.append(dict(found))
        if len(waiting) in (1, 5):
            place.succeed("import_inventory")  # a second run at once

    monkeypatch.setattr(Warehouse, "give_way", others)
    place.succeed("import_inventory")
    assert waiting[0] == {"imported": 1, "pending": 3}
    assert {"finished"} == {status for _, status, *_ in place.logs()}
    assert place.stock() == {("10001", "WAREHOUSE"): (4, 4)}
    assert place.rows("select count(*) from inventory_item_detail") == [(4,)], "each file once"


def test_refused_rows_dropped_back_unmended_are_refused_again(place: Place) -> None:
    place.put_reset(
        "reset.csv",
        "externalFacilityId,idValue,availableQty\n43,501,1,000\n43,502\n43\n43,503,\n44,501,5\n900,501,5\n43,999,5\n43,501,1e3\n",
    )
    assert place.run("import_inventory").success
    assert place.logs() == [("reset.csv", "finished_with_errors", 8, 8, 0)]
    (refused_rows,) = failed_records_files(place)
    place.put_reset(refused_rows.name, refused_rows.read_bytes())
    assert place.run("import_inventory").success
    assert place.logs()[1] == (refused_rows.name, "finished_with_errors", 8, 8, 0)
    assert place.stock() == {}


@pytest.mark.parametrize(
    ("characters", "reason"),
    [
        (200_000, "Column availableQty is missing"),
        (1_100_000, "Its header has a field of more than 1,000,000 characters"),
    ],
)
def test_a_page_in_place_of_a_file_fails_alone(place: Place, characters: int, reason: str) -> None:
    csv.field_size_limit(131_072)  # as in a process that has decoded nothing yet
    place.put_reset("page.csv", f"<html>{'x' * characters}\n")
    place.put_reset("good.csv", HEADER + ROWS)
    result = place.run("import_inventory")
    assert f"page.csv: {reason}" in (checks(result)["files_readable"].description or "")
    assert [log[1] for log in place.logs()] == ["failed", "finished"]


def test_a_refused_row_keeps_its_whole_comment(place: Place) -> None:
    place.put_reset(
        "reset.csv", "facilityId,idValue,quantity,comments\nBROADWAY,501,ten,counted twice, by Ann, in May\n"
    )
    assert place.run("import_inventory").success
    (refused_rows,) = failed_records_files(place)
    mended = refused_rows.read_text().replace(",ten,", ",10,")
    place.put_reset(refused_rows.name, mended)
    assert place.run("import_inventory").success
    assert place.rows("select quantity, comments from inventory_reset") == [(10, "counted twice, by Ann, in May")]


def test_a_letter_of_windows_1252_is_one_at_the_end_of_a_block_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = f"{HEADER}Modèle é".encode("cp1252")
    monkeypatch.setattr(reading, "BLOCK_BYTES", len(begun))
    place.put_reset("within.csv", begun + b",43,10,501\n")
    place.put_reset("last.csv", f"{HEADER},43,10,é".encode("cp1252").rjust(len(begun) - 1, b"x") + b"\xe9")
    place.succeed("import_inventory")
    assert [(name, status) for name, status, *_ in sorted(place.logs())] == [
        ("last.csv", "finished_with_errors"),
        ("within.csv", "finished"),
    ]
