"""What readers of calls accept as tensors."""

from typing import Any

from morphs.torch_io.program import Value
from morphs.torch_io.reading import Refused


def data(value: Any, *ranks: int) -> Value:
    """A floating tensor with the batch axis first, and one of these numbers of further axes (any by default)."""
    if not isinstance(value, Value) or value.dtype is None or not value.dtype.is_floating_point:
        raise Refused(f"it takes {value!r:.40}; give a floating tensor")
    if not value.shape or value.key or (ranks and len(value.shape) not in ranks):
        raise Refused(f"it reads a tensor of size {value.size}, which no op of the vocabulary does")
    return value


def held(**given: Any) -> dict[str, Value]:
    """Parameters and buffers of a module, without those that are None."""
    for name, value in given.items():
        if value is not None and not (isinstance(value, Value) and value.key):
            raise Refused(f"its {name} is computed; keep it as a parameter")
    return {name: value for name, value in given.items() if value is not None}
