"""What every model of the configuration is."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A part of the configuration: immutable, and nothing in it unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)
