"""The base of settings of a policy or a move sampler: a frozen model, declared next to its policy or sampler."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """No settings; a subclass declares its settings as fields with a range and a `description`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
