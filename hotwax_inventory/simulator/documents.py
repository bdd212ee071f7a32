"""GraphQL documents: parsed and checked once, then asked what they call and which parts of an answer they want.

An answer is a plain mapping; a value in it may be a function of the field's arguments. `__typename` decides which
fragments apply.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    parse,
)

from hotwax_inventory.simulator.graphql_errors import FieldError, Refused, error, syntax_error
from hotwax_inventory.simulator.graphql_values import Arguments, arguments_of, idempotency_key, is_included, plain
from hotwax_inventory.simulator.schema import check_document, check_variable, load_schema

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = "Scalar | Sequence[Value] | Mapping[str, Value] | Callable[[Arguments], Value]"
Answer: TypeAlias = Mapping[str, Value]

# types that stand for many in a fragment's condition; every object here has these when it is asked
INTERFACES = frozenset({"Node", "DisplayableError"})


@dataclass(frozen=True)
class RootField:
    """One field of an operation's root, with its arguments in place of variables."""

    name: str
    alias: str
    arguments: Arguments
    idempotency_key: str | None
    node: FieldNode


class Document:
    """One parsed operation."""

    def __init__(self, text: str, schema_file: Path | None, operation_name: str | None = None) -> None:
        """Parse and, with a schema, validate; `Refused` tells what is wrong."""
        self.text = text
        self.schema = load_schema(schema_file) if schema_file else None
        self._syntax = _parsed(text)
        if self.schema is not None:
            check_document(self.schema, self._syntax)
        self._fragments = {
            definition.name.value: definition
            for definition in self._syntax.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self.operation = self._operation(operation_name)
        self._conditional = "@skip" in text or "@include" in text
        self._collected: dict[tuple[int, str | None], list[FieldNode]] = {}
        self.is_mutation = self.operation.operation.value == "mutation"

    def _operation(self, name: str | None) -> OperationDefinitionNode:
        operations = [node for node in self._syntax.definitions if isinstance(node, OperationDefinitionNode)]
        chosen = [node for node in operations if name is None or (node.name and node.name.value == name)]
        if len(chosen) != 1:
            raise Refused([error("An operation name is required", "undefinedOperation")])
        return chosen[0]

    def variables(self, given: Arguments) -> Arguments:
        """The given variables with the operation's defaults; Refused when the schema says that one is wrong."""
        values = dict(given)
        for definition in self.operation.variable_definitions or ():
            name = definition.variable.name.value
            if name not in values and definition.default_value is not None:
                values[name] = plain(definition.default_value, {})
            if self.schema is not None:
                check_variable(self.schema, definition, values)
        return values

    def root_fields(self, variables: Arguments) -> list[RootField]:
        """The fields that the operation calls, fragments opened."""
        root = "Mutation" if self.is_mutation else "QueryRoot"
        return [
            RootField(
                name=node.name.value,
                alias=node.alias.value if node.alias else node.name.value,
                arguments=arguments_of(node, variables),
                idempotency_key=idempotency_key(node.directives, variables),
                node=node,
            )
            for node in self.fields(self.operation.selection_set, root, variables)
        ]

    def project(self, value: Value, field: FieldNode, variables: Arguments, errors: list[FieldError]) -> object:
        """What the field's selection asks of `value`, under its aliases; what fails is null and in `errors`."""
        if callable(value):
            value = value(arguments_of(field, variables))
        if isinstance(value, Mapping):
            if field.selection_set is None:
                raise FieldError(f"Field must have selections (field '{field.name.value}')", "selectionMismatch")
            type_name = value.get("__typename")
            fields = self.fields(field.selection_set, type_name if isinstance(type_name, str) else None, variables)
            return self.project_fields(value, fields, variables, errors)
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [self.project(entry, field, variables, errors) for entry in value]
        return value

    def project_fields(
        self, value: Answer, fields: Sequence[FieldNode], variables: Arguments, errors: list[FieldError]
    ) -> dict[str, object]:
        """Those fields of `value`."""
        chosen: dict[str, object] = {}
        for node in fields:
            name = node.name.value
            alias = node.alias.value if node.alias else name
            try:
                found = value[name]
                is_plain = found is None or isinstance(found, (str, int))
                chosen[alias] = found if is_plain else self.project(found, node, variables, errors)
            except KeyError:
                chosen[alias] = None
                message = f"The simulator does not answer field '{name}' of {value.get('__typename')}"
                errors.append(FieldError(message, "undefinedField"))
            except FieldError as problem:
                chosen[alias] = None
                errors.append(problem)
        return chosen

    def fields(self, selection: SelectionSetNode, type_name: str | None, variables: Arguments) -> list[FieldNode]:
        """The fields that a selection takes from an object of that type, fragments opened."""
        if self._conditional:
            return list(self._opened(selection, type_name, variables))
        known = self._collected.get((id(selection), type_name))
        if known is None:
            known = list(self._opened(selection, type_name, variables))
            self._collected[id(selection), type_name] = known
        return known

    def _opened(self, selection: SelectionSetNode, type_name: str | None, variables: Arguments) -> Iterator[FieldNode]:
        for node in selection.selections:
            if node.directives and not is_included(node, variables):
                continue
            if isinstance(node, FieldNode):
                yield node
                continue
            fragment = node if isinstance(node, InlineFragmentNode) else self._fragment(node)
            condition = fragment.type_condition.name.value if fragment.type_condition else None
            if condition is None or type_name is None or condition == type_name or condition in INTERFACES:
                yield from self._opened(fragment.selection_set, type_name, variables)

    def _fragment(self, node: SelectionNode) -> FragmentDefinitionNode:
        name = getattr(node, "name").value  # noqa: B009 - a spread; the third and last kind of selection
        if name not in self._fragments:
            raise FieldError(f"Fragment {name} was used, but not defined", "useAndDefineFragment")
        return self._fragments[name]


@lru_cache(maxsize=256)
def read_document(text: str, schema_file: Path | None, operation_name: str | None = None) -> Document:
    """The document, parsed and validated the first time only."""
    return Document(text, schema_file, operation_name)


def _parsed(text: str) -> DocumentNode:
    try:
        return parse(text)
    except GraphQLError as problem:
        raise Refused([syntax_error(problem)]) from problem
