"""What a feed declares of its files, and what a run that imports them may be told."""

import json
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from hotwax_inventory import settings
from hotwax_inventory.files.looking import Source
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports.text import JsonRecords, normalised
from hotwax_inventory.run_config import HotwaxConfig
from hotwax_inventory.tables import Table


@dataclass(frozen=True)
class Column:
    """A column that a file may have: our name for it, and the header names that mean it."""

    name: str
    aliases: tuple[str, ...]
    is_free_text: bool = False

    @property
    def aliases_normalised(self) -> set[str]:
        return {normalised(alias) for alias in self.aliases}


# How NetSuite's rows name a place of stock and an item, and what of that a header must have.
FACILITY_AND_PRODUCT = (
    Column("facility_id", ("facilityId",)),
    Column("external_facility_id", ("externalFacilityId",)),
    Column("product_id", ("productId",)),
    Column("netsuite_product_id", ("netsuiteProductId",)),
    Column("id_type", ("idType",)),
    Column("id_value", ("idValue",)),
)
NAMES_FACILITY_AND_PRODUCT = (
    ("facility_id", "external_facility_id"),
    ("product_id", "netsuite_product_id", "id_value"),
)


@dataclass(frozen=True)
class Import:
    """How the files of a feed become rows.

    `checked` is SQL over the relation `file_row`: log_id, line_number, structure_reason, the declared columns as text, what
    `identify.keys` makes of them, and each parameter as `default_<name>`. It yields its columns and the table's, `is_right`,
    `is_of_nobody` (a right row that is to be ignored) and, for rows that are not right, `refusal` (a struct of `column_name`,
    one of ours, and `reason`)."""

    feed: Feed
    table: Table
    columns: tuple[Column, ...]
    required: tuple[tuple[str, ...], ...]
    checked: str
    # How a JSON file of this kind becomes the same rows; None where there is no such file.
    json: JsonRecords | None = None
    # Types of identification that the rows have whatever their columns, where `checked` finds the product otherwise.
    types: tuple[str, ...] = ()
    # SQL that brings the tables of state to what the rows of `batch` (log_id) make of them; without it the ledger does that.
    applied: tuple[str, ...] = ()
    # SQL of what the ledger takes from the rows of `posting` (log_id), as `ledger.fold` wants it; resets are its own matter.
    events: str | None = None


class ImportFiles(HotwaxConfig):
    """What a file import may be told. Everything has a default; HotWax's own spellings are understood beside ours."""

    spellings: ClassVar[dict[str, str]] = {
        "configId": "config_id",
        "propertyResource": "property_resource",
        "remoteFilename": "remote_filename",
        "fileNameRegex": "file_name_regex",
        "importPath": "import_path",
        "locationSeqId": "location_seq_id",
        "scheduleNow": "schedule_now",
        "configID": "config_id",
        "importpath": "import_path",
        "idType": "id_type",
    }

    config_id: str = Field(description="MDM config that receives the files")
    property_resource: str = Field(
        "FTP_CONFIG", description="SFTP connection: FTP_CONFIG is SFTP_*, any other N is N_SFTP_*"
    )
    remote_filename: str | None = Field(None, description="take only the file of exactly this name")
    file_name_regex: str | None = Field(
        None, description="take only names that fit: a glob such as *.csv, or a regular expression"
    )
    import_path: str | None = Field(None, description="remote directory below SFTP_ROOT instead of the feed's own")
    location_seq_id: str | None = Field(
        None, description="warehouse location for rows that state none; kept with the row"
    )
    schedule_now: bool = Field(
        True, description="false: land and register only, process_bulk_imported_files does the rest"
    )
    id_type: str = Field("NETSUITE_PRODUCT_ID", description="type of idValue in files without an idType column")
    allow_duplicate_content: bool = Field(False, description="apply a file even if the same content came before")
    approve: bool = Field(
        False, description="with paths: apply these files although they look wrong, held ones (of resets) included"
    )
    paths: list[str] = Field([], description="exactly these files, relative to SFTP_ROOT; empty: every ready file")
    configId: str | None = Field(None, description="HotWax's spelling of config_id")
    propertyResource: str | None = Field(None, description="HotWax's spelling of property_resource")
    remoteFilename: str | None = Field(None, description="HotWax's spelling of remote_filename")
    fileNameRegex: str | None = Field(None, description="HotWax's spelling of file_name_regex")
    importPath: str | None = Field(None, description="HotWax's spelling of import_path")
    locationSeqId: str | None = Field(None, description="HotWax's spelling of location_seq_id")
    scheduleNow: bool | None = Field(None, description="HotWax's spelling of schedule_now")
    configID: str | None = Field(None, description="HotWax's other spelling of config_id")
    importpath: str | None = Field(None, description="HotWax's other spelling of import_path")
    idType: str | None = Field(None, description="HotWax's spelling of id_type")

    def parameters(self) -> dict[str, str | None]:
        """What reading the rows depends on; it is kept with the file, since they may be read by a later run."""
        return {
            "id_type": self.id_type,
            "location_seq_id": self.location_seq_id,
            "kits": "components" if settings.kits_from_components() else "netsuite",
            "approve": "true" if self.approve and self.paths else None,
        }

    def source(self, feed: Feed) -> Source:
        """What this run wants from SFTP."""
        patterns = (self.file_name_regex,) if self.file_name_regex else feed.patterns
        return Source(
            directories=(self.import_path,)
            if self.import_path
            else settings.import_directories(self.config_id, feed.directories),
            patterns=patterns,
            file_name=self.remote_filename,
            paths=tuple(self.paths),
            config_id=self.config_id,
            property_resource=self.property_resource,
            allow_duplicate_content=self.allow_duplicate_content,
            parameters=json.dumps(self.parameters() | {"feed": feed.config_id}),
        )
