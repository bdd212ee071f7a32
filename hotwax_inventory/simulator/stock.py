"""What a shop holds, as values: items, locations, levels, and the changes made to them."""

from dataclasses import dataclass

QUANTITY_COLUMNS = ("available", "committed", "incoming", "reserved", "damaged", "safety_stock", "quality_control")


@dataclass(frozen=True)
class Item:
    """An inventory item of a shop."""

    item_id: int
    sku: str
    tracked: bool
    updated_at: str


@dataclass(frozen=True)
class Location:
    """A location of a shop; `level_number` stands in the ids of its levels."""

    location_id: int
    name: str
    is_active: bool
    level_number: int


@dataclass(frozen=True)
class Level:
    """The quantities of one item at one location."""

    item_id: int
    location_id: int
    level_number: int
    available: int
    committed: int
    incoming: int
    reserved: int
    damaged: int
    safety_stock: int
    quality_control: int
    is_active: bool
    updated_at: str

    @property
    def on_hand(self) -> int:
        """Shopify's sum: everything physically there, sellable or not."""
        return self.available + self.committed + self.reserved + self.damaged + self.safety_stock + self.quality_control

    def quantity(self, name: str) -> int:
        """The quantity of that Shopify name."""
        return int(getattr(self, name))


@dataclass(frozen=True)
class Adjustment:
    """One applied change of one quantity; `source` is adjust, set, activate, sale or edit."""

    sequence: int
    item_id: int
    location_id: int
    name: str
    delta: int
    source: str
    idempotency_key: str | None
    applied_at: str


@dataclass(frozen=True)
class Call:
    """One API call as tests see it."""

    shop_id: str
    root_field: str
    summary: str
    status: int
    version: str
