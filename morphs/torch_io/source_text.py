"""Pieces of generated source: literals, calls broken into lines as a formatter would, and the functions that every
model.py has."""

import keyword
from collections.abc import Sequence
from math import isfinite
from typing import Any

WIDTH = 110

LOAD = '''
def load(weights: str | Path = WEIGHTS) -> Network:
    """Return the network with its trained weights, in evaluation mode, on the CPU."""
    with torch.device("meta"):  # each tensor comes from the file
        network = Network()
    tensors = read_safetensors(weights)
{}    network.load_state_dict(tensors, assign=True)
    return network.eval()
'''

CONSTANTS = """    for key in tensors.keys() - network.state_dict().keys():  # constants, which are no part of its state
        put(network, key, tensors.pop(key), keep=False)
"""

READER = '''
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file: header length (8 bytes, little-endian), header (JSON), data.

    Raises ValueError if the file is damaged. Nothing in it is executed.
    """
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    body = data[8 + length :]
    try:
        if len(data) < 8 + length:
            raise ValueError(f"{len(data)} bytes are too few for a header of {length}")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        tensors = {name: _tensor(body, **entry) for name, entry in header.items()}
        if sum(tensor.nbytes for tensor in tensors.values()) != len(body):
            raise ValueError("the header does not account for all of the data")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not an intact safetensors file: {error}") from None
    return tensors


def _tensor(body: bytes, dtype: str, shape: list[int], data_offsets: list[int]) -> Tensor:
    begin, end = data_offsets
    if not 0 <= begin <= end <= len(body) or min(shape, default=0) < 0:
        raise ValueError(f"a tensor of shape {shape} is at bytes {begin} to {end} of {len(body)}")
    if prod(shape) * DTYPES[dtype].itemsize != end - begin:
        raise ValueError(f"a tensor of shape {shape} and type {dtype} has {end - begin} bytes")
    if begin == end:
        return torch.empty(shape, dtype=DTYPES[dtype])
    return torch.frombuffer(bytearray(body[begin:end]), dtype=DTYPES[dtype]).reshape(shape)
'''

PUT = '''
def put(root: nn.Module, path: str, part: nn.Module | Tensor, keep: bool = True) -> None:
    """Hold `part` under a dotted path; `keep`: whether a buffer is in the state_dict."""
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    if isinstance(part, nn.Module):
        root.add_module(name, part)
    elif isinstance(part, nn.Parameter):
        root.register_parameter(name, part)
    else:
        root.register_buffer(name, part, persistent=keep)
'''


def literal(value: Any) -> str:
    """A Python literal, with strings in double quotes where that needs no escape."""
    if isinstance(value, float) and not isfinite(value):
        return f'float("{value}")'
    text = repr(value)
    if isinstance(value, str) and text.startswith("'") and '"' not in text and "\\'" not in text:
        return f'"{text[1:-1]}"'
    return text


def broken(head: str, items: Sequence[str], tail: str = ")", indent: int = 8) -> list[str]:
    """`head`, the items, `tail` in one line, or in several; they are not yet indented by `indent` spaces."""
    inside = ", ".join(items)
    if indent + len(f"{head}{inside}{tail}") <= WIDTH or not items:
        return [f"{head}{inside}{tail}"]
    if indent + 4 + len(inside) <= WIDTH and tail == ")":
        return [head, f"    {inside}", tail]
    return [head, *(f"    {item}," for item in items), tail]


def commented(code: list[str], comment: str) -> list[str]:
    """Code with its comment at the end of the line, or above where there is no room."""
    if len(code) == 1 and 8 + len(code[0] + comment) <= WIDTH:
        return [code[0] + comment]
    return [comment.strip(), *code] if comment else code


def constant(name: str, values: Sequence[Any]) -> str:
    """`NAME = (…)`, with one value on each line if they don't fit on one."""
    items = [literal(value) for value in values]
    line = f"{name} = ({', '.join(items)}{',' if len(items) == 1 else ''})"
    return (
        line if len(line) <= WIDTH else "\n".join([f"{name} = (", *(f"    {item}," for item in items), ")"])
    )


def attribute(path: str) -> str:
    """How a method of the network names what it holds at a dotted path."""
    text = "self"
    for part in path.split("."):
        text = f"{text}.{part}" if is_plain(part) else f'getattr({text}, "{part}")'
    return text


def is_plain(part: str) -> bool:
    """Whether it can be written after a dot in a class, where Python changes names that begin with two underscores."""
    return part.isidentifier() and not keyword.iskeyword(part) and not part.startswith("__")
