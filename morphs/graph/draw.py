"""A drawing of a graph as one SVG element.

Layers that only follow one another (convolution, norm, activation) are stacked into one block. The longest
path runs straight down column 0, other branches get columns to its right, and skip connections run between the columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from morphs.graph.arch import ArchGraph, Node
from morphs.graph.show import node_to_text, op_to_call

BOX_W, ROW_H, GAP_Y, LANE, MARGIN = 264, 24, 22, 14, 12
FOLLOWERS = (
    "batch_norm", "activation", "p_activation", "dropout", "scale", "flatten", "max_pool2d", "avg_pool2d",
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "layer_norm", "rms_norm", "group_norm", "instance_norm", "pool",
    "reshape", "permute", "mean", "select",
)  # fmt: skip
FAMILY = {
    "conv2d": "conv", "linear": "linear", "batch_norm": "norm", "activation": "act", "p_activation": "act",
    "add": "join", "concat": "join", "multiply": "join", "input": "end", "output": "end", "conv": "conv",
    "conv_transpose": "conv", "normed_layer": "conv", "embedding": "linear", "unembedding": "linear",
    "recurrent": "linear", "attention": "join", "layer_norm": "norm", "rms_norm": "norm", "group_norm": "norm",
    "instance_norm": "norm",
}  # fmt: skip
# Class names have a prefix: a <style> inside an inline SVG applies to the whole page around it.
STYLE = """
.mg{font:11px system-ui,sans-serif}
.mg rect{fill:#fff;stroke:#c3c7d1}.mg .mg-bar{stroke:none;fill:#9aa1b1}
.mg text{fill:#1d2230}.mg .mg-name,.mg .mg-shape{fill:#6a7182}.mg .mg-op{font-weight:600}
.mg path{fill:none;stroke:#8a92a5;stroke-width:1.5}.mg .mg-tip{fill:#8a92a5;stroke:none}
.mg .mg-skip{stroke:#c2477f}.mg .mg-conv{fill:#3f7fd6}.mg .mg-linear{fill:#7a5bd0}.mg .mg-norm{fill:#5da33c}
.mg .mg-act{fill:#e58a2b}.mg .mg-join{fill:#c2477f}
.mg .mg-new rect:first-of-type{fill:#d9f2e3;stroke:#2e9160}
.mg .mg-changed rect:first-of-type{fill:#fdf0d0;stroke:#c98a00}
@media (prefers-color-scheme:dark){
.mg rect{fill:#20242e;stroke:#454c5c}
.mg .mg-new rect:first-of-type{fill:#1d3f30;stroke:#4cc38a}
.mg .mg-changed rect:first-of-type{fill:#473a17;stroke:#f2b632}
.mg text{fill:#e6e9f0}.mg .mg-name,.mg .mg-shape{fill:#98a1b3}}
"""


@dataclass(frozen=True)
class Layout:
    """Where things are, in pixels: blocks of nodes by their first node's name."""

    blocks: Mapping[str, tuple[Node, ...]]
    block_of: Mapping[str, str]  # node -> block
    column: Mapping[str, int]
    top: Mapping[str, float]

    def bottom(self, block: str) -> float:
        """The lower edge of `block`."""
        return self.top[block] + ROW_H * len(self.blocks[block])

    def sources(self, block: str) -> tuple[str, ...]:
        """The blocks that `block` reads, each once."""
        return tuple(dict.fromkeys(self.block_of[name] for name in self.blocks[block][0].inputs))

    def free(self, column: int, above: float, below: float) -> bool:
        """Whether no block of `column` reaches between these two heights."""
        return not any(
            at == column and self.top[block] < below and self.bottom(block) > above
            for block, at in self.column.items()
        )


def graph_to_svg(graph: ArchGraph, before: ArchGraph | None = None, style: bool = True) -> str:
    """A drawing, inputs on top, as one SVG element, light or dark as the reader prefers.

    before: a graph that it grew from; the layers that are new or changed since are marked, in colour and in words.
    style: whether the element brings its STYLE along; a page with many drawings needs that once.

    Each row shows a node's name, its op with the attributes that matter, and its output shape; all
    attributes are in the row's tooltip.
    """
    layout = _layout(graph)
    skips = _lanes(layout)
    lanes = [
        max((lane + 1 for channel, lane in skips.values() if channel == column), default=0)
        for column in range(max(layout.column.values()) + 1)
    ]
    lefts: list[float] = []
    right = float(MARGIN)
    for count in lanes:
        lefts.append(right + count * LANE + (10 if count else 0))
        right = lefts[-1] + BOX_W + MARGIN
    height = max(map(layout.bottom, layout.blocks)) + MARGIN
    edges = "".join(
        _skip(layout, lefts, source, block, *skips[source, block])
        if (source, block) in skips
        else _edge(layout, lefts, source, block)
        for block in layout.blocks
        for source in layout.sources(block)
    )
    marks = {} if before is None else changes(before, graph)
    boxes = "".join(
        _row(
            graph,
            node,
            marks.get(node.name, ""),
            lefts[layout.column[block]],
            layout.top[block] + ROW_H * row,
        )
        for block, nodes in layout.blocks.items()
        for row, node in enumerate(nodes)
    )
    size = f'width="{right:.0f}" height="{height:.0f}" viewBox="0 0 {right:.0f} {height:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="mg" {size} role="img" aria-label="network of '
        f'{len(graph)} nodes">{f"<style>{STYLE}</style>" if style else ""}{boxes}{edges}</svg>'
    )


def changes(before: ArchGraph, after: ArchGraph) -> dict[str, str]:
    """What happened to the nodes of `after` since `before`, by their name: "new", or "changed" in op or shape."""
    known = {node.name: (node.op, before.shape(node.name)) for node in before}
    return {
        node.name: "changed" if node.name in known else "new"
        for node in after
        if known.get(node.name) != (node.op, after.shape(node.name))
    }


# -- layout ------------------------------------------------------------------------------------------


def _layout(graph: ArchGraph) -> Layout:
    blocks: dict[str, tuple[Node, ...]] = {}
    block_of: dict[str, str] = {}
    for node in graph:
        follows = len(node.inputs) == 1 and len(graph.consumers(node.inputs[0])) == 1
        head = block_of[node.inputs[0]] if follows and node.op.kind in FOLLOWERS else node.name
        block_of[node.name] = head
        blocks[head] = (*blocks.get(head, ()), node)
    top: dict[str, float] = {}
    layout = Layout(blocks, block_of, {}, top)
    for block in blocks:
        top[block] = max((layout.bottom(s) + GAP_Y for s in layout.sources(block)), default=MARGIN)
    return Layout(blocks, block_of, _columns(layout), top)


def _columns(layout: Layout) -> dict[str, int]:
    """Column of each block: the longest path takes column 0, the longest of the rest the next free one, …"""
    column: dict[str, int] = {}
    while len(column) < len(layout.blocks):
        path = _longest_path(layout, set(layout.blocks) - set(column))
        placed = Layout(layout.blocks, layout.block_of, column, layout.top)
        above = min((layout.bottom(s) for s in layout.sources(path[0])), default=layout.top[path[0]])
        below = layout.bottom(path[-1])
        column.update(
            dict.fromkeys(path, next(c for c in range(len(layout.blocks)) if placed.free(c, above, below)))
        )
    return column


def _longest_path(layout: Layout, among: set[str]) -> list[str]:
    paths: dict[str, list[str]] = {}
    for block in (block for block in layout.blocks if block in among):
        before = max((paths[s] for s in layout.sources(block) if s in among), key=len, default=[])
        paths[block] = [*before, block]
    return max(paths.values(), key=len)


def _lanes(layout: Layout) -> dict[tuple[str, str], tuple[int, int]]:
    """(channel, lane) of each edge that can't run straight; channel c is left of column c, lane 0 next to it."""
    bent = [
        (source, block)
        for block in layout.blocks
        for source in layout.sources(block)
        if not any(
            layout.free(layout.column[end], layout.bottom(source), layout.top[block])
            for end in (source, block)
        )
    ]
    bent.sort(key=lambda edge: layout.top[edge[1]] - layout.bottom(edge[0]))
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for source, block in bent:
        channel, lane = max(layout.column[source], layout.column[block]), 0
        while any(
            at == (channel, lane)
            and layout.top[other[1]] + ROW_H > layout.bottom(source) - ROW_H
            and layout.bottom(other[0]) - ROW_H < layout.top[block] + ROW_H
            for other, at in found.items()
        ):
            lane += 1
        found[source, block] = channel, lane
    return found


# -- drawing -----------------------------------------------------------------------------------------


def _edge(layout: Layout, lefts: list[float], source: str, block: str) -> str:
    """Down through a free column: straight where it is one column, else with a bend at the free side's end."""
    x1, x2 = (lefts[layout.column[end]] + BOX_W / 2 for end in (source, block))
    y1, y2 = layout.bottom(source), layout.top[block] - 5
    if layout.free(layout.column[source], y1, layout.top[block]):
        bend = f"V{y2 - GAP_Y + 5:.0f} C{x1:.0f} {y2 - 4:.0f} {x2:.0f} {y2 - GAP_Y:.0f} {x2:.0f} {y2:.0f}"
    else:
        low = y1 + GAP_Y - 5
        bend = f"C{x1:.0f} {low:.0f} {x2:.0f} {y1 + 4:.0f} {x2:.0f} {low:.0f} V{y2:.0f}"
    tip = f'<path class="mg-tip" d="M{x2 - 4:.0f} {y2:.0f} h8 l-4 5z"/>'
    return f'<path d="M{x1:.0f} {y1:.0f} {bend}"/>{tip}'


def _skip(layout: Layout, lefts: list[float], source: str, block: str, channel: int, lane: int) -> str:
    """Out of the side of `source`, down its lane, into the side of `block`."""
    x = lefts[channel] - 10 - LANE * lane - LANE / 2
    ends = [
        lefts[layout.column[end]] + (0 if layout.column[end] >= channel else BOX_W) for end in (source, block)
    ]
    y1, y2 = layout.bottom(source) - 8, layout.top[block] + 8
    inward = 5 if ends[1] > x else -5
    return (
        f'<path class="mg-skip" d="M{ends[0]:.0f} {y1:.0f} Q{x:.0f} {y1:.0f} {x:.0f} {y1 + 12:.0f} V{y2 - 12:.0f} '
        f'Q{x:.0f} {y2:.0f} {ends[1] - inward:.0f} {y2:.0f}"/><path class="mg-tip mg-join" '
        f'd="M{ends[1] - inward:.0f} {y2 - 4:.0f} v8 l{inward} -4z"/>'
    )


def _row(graph: ArchGraph, node: Node, mark: str, x: float, y: float) -> str:
    shape = "×".join(map(str, graph.shape(node.name)))
    text, bar = y + ROW_H / 2 + 4, f"mg-bar mg-{FAMILY.get(node.op.kind, 'other')}"
    group = f'<g class="mg-{mark}">' if mark else "<g>"
    return (
        f"{group}<title>{f'{mark}: ' if mark else ''}{escape(node_to_text(node))}  →  {shape}</title>"
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX_W}" height="{ROW_H}"/>'
        f'<rect class="{bar}" x="{x:.0f}" y="{y:.0f}" width="5" height="{ROW_H}"/>'
        f'<text class="mg-name" x="{x + 12:.0f}" y="{text:.0f}">{escape(_cut(node.name, 9))}</text>'
        f'<text class="mg-op" x="{x + 68:.0f}" y="{text:.0f}">{escape(_cut(_label(node), 22))}</text>'
        f'<text class="mg-shape" x="{x + BOX_W - 8:.0f}" y="{text:.0f}" text-anchor="end">{shape}</text></g>'
    )


def _label(node: Node) -> str:
    """Op and the attributes that its output shape doesn't show."""
    name, keywords = op_to_call(node.op)
    kernel = keywords.pop("kernel", None)
    words = [name.removesuffix("2d").replace("_", " ")]
    if kernel is not None:
        words.append("×".join(map(str, kernel if isinstance(kernel, tuple) else (kernel, kernel))))
    hidden = ("channels", "features", "padding", "size", "bias", "per_channel")
    words += [f"{key} {value}" for key, value in keywords.items() if key not in hidden and value is not True]
    return " ".join(words)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
