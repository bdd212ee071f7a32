"""Pages of a list in GraphQL's connection form."""

import base64
from collections.abc import Sequence

from hotwax_inventory.simulator.documents import Answer
from hotwax_inventory.simulator.graphql_errors import FieldError
from hotwax_inventory.simulator.graphql_values import Arguments


def connection(type_name: str, nodes: Sequence[Answer], arguments: Arguments) -> Answer:
    """The page of `nodes` that `first`/`after` or `last`/`before` ask for, newest last unless `reverse`."""
    first, last = arguments.get("first"), arguments.get("last")
    if not isinstance(first, int) and not isinstance(last, int):
        raise FieldError(f"you must provide one of first or last for {type_name}s", "BAD_REQUEST")
    ordered = list(reversed(nodes)) if arguments.get("reverse") is True else list(nodes)
    start, end = 0, len(ordered)
    if isinstance(after := arguments.get("after"), str):
        start = _place(after) + 1
    if isinstance(before := arguments.get("before"), str):
        end = min(end, _place(before))
    if isinstance(first, int):
        end = min(end, start + first)
    elif isinstance(last, int):
        start = max(start, end - last)
    edges = [
        {"__typename": f"{type_name}Edge", "cursor": _cursor(place), "node": ordered[place]}
        for place in range(start, end)
    ]
    page = {
        "__typename": "PageInfo",
        "hasNextPage": end < len(ordered),
        "hasPreviousPage": start > 0,
        "startCursor": edges[0]["cursor"] if edges else None,
        "endCursor": edges[-1]["cursor"] if edges else None,
    }
    return {"__typename": f"{type_name}Connection", "edges": edges, "nodes": ordered[start:end], "pageInfo": page}


def _cursor(place: int) -> str:
    return base64.b64encode(f"place:{place}".encode()).decode()


def _place(cursor: str) -> int:
    try:
        return int(base64.b64decode(cursor, validate=True).decode().removeprefix("place:"))
    except ValueError as problem:
        raise FieldError(f"Invalid cursor for current pagination sort: {cursor}", "BAD_REQUEST") from problem
