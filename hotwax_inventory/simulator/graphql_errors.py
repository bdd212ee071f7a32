"""GraphQL errors as Shopify writes them, and the two exceptions that carry them."""

from collections.abc import Mapping, Sequence

from graphql import GraphQLError


class Refused(Exception):
    """The document as a whole is refused: `errors` is the answer, without `data`."""

    def __init__(self, errors: Sequence[Mapping[str, object]]) -> None:
        super().__init__(str(errors))
        self.errors = errors


class FieldError(Exception):
    """One root field fails at run time: an error with a code beside `data`, in which the field is null."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def error(message: str, code: str, **more: object) -> dict[str, object]:
    """A top-level GraphQL error as Shopify writes it."""
    extensions = more.pop("extensions", {})
    details = dict(extensions) if isinstance(extensions, Mapping) else {}
    return {"message": message, **more, "extensions": {"code": code, **details}}


def syntax_error(problem: GraphQLError) -> dict[str, object]:
    """What graphql-core found wrong with a document."""
    places = [{"line": place.line, "column": place.column} for place in problem.locations or ()]
    return error(problem.message, "GRAPHQL_VALIDATION_FAILED", locations=places)
