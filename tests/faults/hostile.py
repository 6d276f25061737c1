"""Files as no sound run has them: bytes flipped and cut, and documents made to hurt whoever reads them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path


def flipped(data: bytes, place: int) -> bytes:
    """One bit changed, another one at each place."""
    return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


def flips(data: bytes, step: int = 1) -> Iterator[bytes]:
    """One bit of every `step`-th byte changed."""
    for place in range(0, len(data), step):
        yield flipped(data, place)


def cuts(data: bytes, step: int = 1) -> Iterator[bytes]:
    """Cut short after every `step`-th byte."""
    for size in range(0, len(data), step):
        yield data[:size]


def pickle_bomb(canary: Path) -> bytes:
    """A pickle that makes the file `canary` when it is loaded."""
    return f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode()


def documents(canary: Path) -> dict[str, bytes]:
    """JSON and other bytes that are to be refused wherever they lie, quickly and in little memory."""
    return {
        "empty": b"",
        "zeros": b"\0" * 5000,
        "pickle": pickle_bomb(canary),
        "pickle, protocol 4": b"\x80\x04\x95" + b"\xff" * 8 + b"cposix\nsystem\n.",
        "zip of PyTorch": b"PK\x03\x04" + b"\0" * 26 + b"archive/data.pkl" + pickle_bomb(canary),
        "deep list": b"[" * 200_000 + b"]" * 200_000,
        "deep object": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        "long number": b'{"format":' + b"9" * 2_000_000 + b"}",
        "NaN": b'{"format":NaN}',
        "infinity": b'{"format":1e999}',
        "surrogate": b'{"format":"\\ud800"}',
        "null": b"null",
        "list": b"[]",
        "text": b'"../../../etc/passwd"',
        "million keys": b"{" + b",".join(b'"%d":0' % i for i in range(200_000)) + b"}",
        "same key twice": b'{"format":1,"format":1}',
        "UTF-16": '{"format":1}'.encode("utf-16"),
        "byte order mark": b'\xef\xbb\xbf{"format":1}',
    }


def graphs(text: str) -> dict[str, bytes]:
    """Graph documents that describe none, or one that nobody can hold. text: the document of a sound graph."""
    whole = json.loads(text)

    def changed(kind: str, /, **entries: object) -> bytes:
        nodes = [{**node, **(entries if node["op"]["kind"] == kind else {})} for node in whole["nodes"]]
        return json.dumps({**whole, "nodes": nodes}).encode()

    def op(name: str, /, **fields: object) -> bytes:
        kind = next(node["op"] for node in whole["nodes"] if node["op"]["kind"] == name)
        return changed(name, op={**kind, **fields})

    linear = next(node["name"] for node in whole["nodes"] if node["op"]["kind"] == "linear")
    return {
        "a cycle of one": changed("linear", inputs=[linear]),
        "a cycle of two": changed("flatten", inputs=[linear]),
        "its own owner's owner": changed("flatten", owner=linear),
        "no such input": changed("linear", inputs=["nowhere"]),
        "a hundred thousand inputs": changed("linear", inputs=["x"] * 100_000),
        "a name of a million letters": changed("linear", name="a" * 1_000_000),
        "a layer of 10^12 units": op("linear", features=10**12),
        "a layer of 10^400 units": op("linear", features=10**400),
        "a layer of no units": op("linear", features=0),
        "a layer of minus one unit": op("linear", features=-1),
        "a layer of True units": op("linear", features=True),
        "an input of 10^15 numbers": op("input", size=[10**5, 10**5, 10**5]),
        "an input of 10^5 axes": op("input", size=[1] * 100_000),
        "an op of another program": changed("linear", op={"kind": "os.system", "features": 3}),
        "a field too many": op("linear", command="id"),
        "no nodes": json.dumps({**whole, "nodes": []}).encode(),
        "200 000 nodes": json.dumps({**whole, "nodes": whole["nodes"] * 50_000}).encode(),
        "100 000 layers in a row": json.dumps({**whole, "nodes": _tower(whole["nodes"], 99_000)}).encode(),
    }


def _tower(nodes: list[dict[str, object]], height: int) -> list[dict[str, object]]:
    flat = next(node for node in nodes if node["op"]["kind"] == "flatten")  # pyright: ignore
    last, rows = flat["name"], []
    for number in range(height):
        rows.append({**flat, "name": f"t{number}", "owner": f"t{number}", "inputs": [last]})
        last = f"t{number}"
    linear = next(node for node in nodes if node["op"]["kind"] == "linear")  # pyright: ignore
    others = [node for node in nodes if node is not linear]
    return [
        *others[: others.index(flat) + 1],
        *rows,
        {**linear, "inputs": [last]},
        *others[others.index(flat) + 1 :],
    ]


def tensors() -> dict[str, bytes]:
    """Safetensors files that lie about what they hold."""

    def file(header: object, data: bytes = b"", size: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if size is None else size) + text + data

    def entry(shape: list[int], begin: int, end: int, kind: str = "F32") -> dict[str, object]:
        return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}

    return {
        "no header": b"\0" * 7,
        "a header of 2^63 bytes": file({}, size=2**63),
        "a header of 2^40 bytes": file({}, size=2**40),
        "a header of 2^64 - 1 bytes": file({}, size=2**64 - 1),
        "a deep header": file(b"[" * 100_000),
        "a tensor of 2^60 numbers": file({"c.weight": entry([2**30, 2**30], 0, 2**62)}),
        "a shape that overflows": file({"c.weight": entry([2**33, 2**33], 0, 0)}),
        "an end before the begin": file({"c.weight": entry([1], 4, 0)}, b"\0" * 8),
        "tensors in one place": file({"c.weight": entry([1], 0, 4), "c.bias": entry([1], 0, 4)}, b"\0" * 4),
        "a hole": file({"c.weight": entry([1], 4, 8)}, b"\0" * 8),
        "a type of another program": file({"c.weight": entry([1], 0, 4, "PICKLE")}, b"\0" * 4),
        "complex numbers": file({"c.weight": entry([1], 0, 8, "C64")}, b"\0" * 8),
        "an axis of minus one": file(
            b'{"c.weight":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b"\0" * 4
        ),
        "a name that climbs": file({"../../x.weight": entry([1], 0, 4)}, b"\0" * 4),
        "no tensors": file({}),
        "another network's tensors": file({"q.weight": entry([1], 0, 4)}, b"\0" * 4),
    }
