"""Shopify's schema file: loaded once a process, and asked whether documents and variables are right."""

import gzip
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    VariableDefinitionNode,
    build_client_schema,
    build_schema,
    type_from_ast,
    validate,
)
from graphql.type import GraphQLInputType, is_input_type
from graphql.utilities import coerce_input_value

from hotwax_inventory.simulator.graphql_errors import Refused, error, syntax_error


@lru_cache(maxsize=4)
def load_schema(file: Path) -> GraphQLSchema:
    """The schema of an introspection result (`.json`, `.json.gz`) or of SDL (`.graphql`); slow the first time."""
    if file.suffix == ".graphql":
        return build_schema(file.read_text(encoding="utf-8"), assume_valid=True)
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    introspection = json.loads(content)
    # assume_valid: graphql-core 3.3 finds deprecated implementations of undeprecated interface fields in Shopify's file
    return build_client_schema(introspection.get("data", introspection), assume_valid=True)


def check_document(schema: GraphQLSchema, syntax: DocumentNode) -> None:
    """Refused when the document asks for what the schema has not."""
    problems = validate(schema, syntax)
    if problems:
        raise Refused([syntax_error(problem) for problem in problems])


def check_variable(schema: GraphQLSchema, definition: VariableDefinitionNode, given: Mapping[str, object]) -> None:
    """Refused when the variable's value is not of its declared type."""
    name = definition.variable.name.value
    declared = type_from_ast(schema, definition.type)
    if declared is None or not is_input_type(declared):
        return
    problems: list[dict[str, object]] = []
    if name in given:
        _coerce(given[name], cast(GraphQLInputType, declared), problems)
    elif str(declared).endswith("!"):
        problems.append({"path": [], "explanation": "Expected value to not be null"})
    if problems:
        raise Refused([_invalid_variable(name, str(declared), given.get(name), problems)])


def _coerce(value: object, declared: GraphQLInputType, problems: list[dict[str, object]]) -> None:
    def note(path: list[str | int], _: object, problem: GraphQLError) -> None:
        problems.append({"path": path, "explanation": problem.message})

    coerce_input_value(value, declared, note)


def _invalid_variable(
    name: str, declared: str, value: object, problems: Sequence[Mapping[str, object]]
) -> dict[str, object]:
    first = problems[0]
    path = first["path"]
    place = ".".join(str(part) for part in path) if isinstance(path, list) else ""
    message = f"Variable ${name} of type {declared} was provided invalid value"
    message += f" for {place} ({first['explanation']})" if place else ""
    return error(message, "INVALID_VARIABLE", extensions={"value": value, "problems": problems})
