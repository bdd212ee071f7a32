"""The values written in a document, in place of their syntax and their variables."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    EnumValueNode,
    FieldNode,
    FloatValueNode,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    SelectionNode,
    StringValueNode,
    ValueNode,
    VariableNode,
)

Arguments: TypeAlias = Mapping[str, object]


def arguments_of(node: FieldNode | DirectiveNode, variables: Arguments) -> dict[str, object]:
    """The arguments of a field or directive; one whose variable is not given is left out."""
    return {
        argument.name.value: plain(argument.value, variables)
        for argument in node.arguments
        if not isinstance(argument.value, VariableNode) or argument.value.name.value in variables
    }


def plain(node: ValueNode, variables: Arguments) -> object:
    """One value; input fields whose variable is not given are left out."""
    match node:
        case VariableNode():
            return variables.get(node.name.value)
        case NullValueNode():
            return None
        case IntValueNode():
            return int(node.value)
        case FloatValueNode():
            return float(node.value)
        case StringValueNode() | BooleanValueNode() | EnumValueNode():
            return node.value
        case ListValueNode():
            return [plain(entry, variables) for entry in node.values]
        case ObjectValueNode():
            return {
                entry.name.value: plain(entry.value, variables)
                for entry in node.fields
                if not isinstance(entry.value, VariableNode) or entry.value.name.value in variables
            }
    raise TypeError(f"A {node.kind} is no value.")


def idempotency_key(directives: Sequence[DirectiveNode], variables: Arguments) -> str | None:
    """The key of `@idempotent`."""
    for directive in directives:
        if directive.name.value == "idempotent":
            key = arguments_of(directive, variables).get("key")
            return key if isinstance(key, str) else None
    return None


def is_included(node: SelectionNode, variables: Arguments) -> bool:
    """What `@skip` and `@include` say."""
    for directive in node.directives:
        condition = arguments_of(directive, variables).get("if")
        if (directive.name.value == "skip" and condition is True) or (
            directive.name.value == "include" and condition is False
        ):
            return False
    return True
