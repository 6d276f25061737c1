"""What the settings of a policy or a move sampler are: a frozen model, declared beside what it is for."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """No settings; a subclass declares some, as fields with a range and a `description`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
