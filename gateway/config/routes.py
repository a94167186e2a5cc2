"""Where items go."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from gateway.config.base import Model


class Route(Model):
    """Where items of a signal go, perhaps only those of some resources."""

    to: str
    """A destination."""
    when: Annotated[Mapping[str, str], Field(max_length=16)] = Field(default_factory=dict)
    """Resource attributes to regexes, RE2 and anchored at both ends: items of resources where all match go there. An
    attribute that a resource does not have is empty."""
    unless: Annotated[Mapping[str, str], Field(max_length=16)] = Field(default_factory=dict)
    """The same: items of resources where all match do not go there."""

    @property
    def takes_all(self) -> bool:
        return not (self.when or self.unless)


def _route(value: Any) -> Any:
    return {"to": value} if isinstance(value, str) else value


Routes = Annotated[
    tuple[Annotated[Route, BeforeValidator(_route, json_schema_input_type=str | Route)], ...], Field(max_length=64)
]
"""Of one signal. An entry is a destination's name, or a `Route`."""
