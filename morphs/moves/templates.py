"""Templates of subnets: a text in the paper's notation (Table 1), such as `(K:4C)(1:C)`.

A layer is `(kernel:channels)`. Layers in a row are a path; paths, separated by `+`, read one tensor and are added; `()`
is the identity. A kernel is a number, `1x7`, or `K`, that of the replaced layer. Channels are a number, or a multiple
of C, the output channels of the replaced layer: `C`, `4C`, `C/2`. A path's last layer may leave them out: they are C.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from morphs.graph.ops import Layer, Linear, Pair
from morphs.solve.sequence import Stage, composite

TEMPLATES: Mapping[str, str] = MappingProxyType(
    {
        "mlpconv": "(K:C)(1:C)(1:C)",  # Network in Network, arXiv 1312.4400
        # GoogLeNet, arXiv 1409.4842; a max pool is not a convolution, so G's own kernel replaces it
        "inception": "(1:C) + (1:C/2)(3:C) + (1:C/4)(5:C) + (K:C)(1:C)",
        "bottleneck": "(K:4C)(1:C)",  # the paper's, Tables 1 and 2: four times as wide, and back by 1×1
        "residual": "() + (K:C)(K:C)",  # ResNet, arXiv 1512.03385
        "sequential": "(K:4C)(3:4C)(1:C)",  # the subnet of cifar_3333, Table 1
        "stacked": "(K:C)(1:C) + (K:C)(1:C)",  # figure 6 (c), two ways
    }
)
LAYER = re.compile(
    r"\(\s*(K|\d+(?:\s*x\s*\d+)?)\s*(?::\s*(?:(\d+)|(\d*)\s*C\s*(?:/\s*(\d+))?)\s*)?\)", re.ASCII
)
Paths = tuple[tuple[Stage, ...], ...]


def read_template(text: str, kernel: Pair, outs: int, multiple: int = 1) -> Paths:
    """The paths of a template's name or text, for a layer of this `kernel` with `outs` output channels.

    Widths relative to C are rounded up to a multiple of `multiple`. Raises ValueError saying what is wrong.
    """
    paths = tuple(_read_path(path, kernel, outs, multiple) for path in TEMPLATES.get(text, text).split("+"))
    if not any(paths):
        raise ValueError(f"template {text!r:.80} has no layers")
    return paths


def _read_path(text: str, kernel: Pair, outs: int, multiple: int) -> tuple[Stage, ...]:
    text = text.strip()
    if text == "()":
        return ()
    stages: list[Stage] = []
    at = 0
    while at < len(text):
        found = LAYER.match(text, at)
        if found is None:
            raise ValueError(
                f"template part {text[at:]!r:.40} is not a layer such as (3:64), (K:4C) or (1:C/2)"
            )
        stages.append(_read_layer(found, kernel, outs, multiple))
        at = found.end() + len(text[found.end() :]) - len(text[found.end() :].lstrip())
    if not stages:
        raise ValueError("a path of the template is empty; write () for the identity")
    if stages[-1][1] != outs:
        raise ValueError(
            f"template path {text!r:.80} does not end with the {outs} channels of the layer; leave them out"
        )
    return tuple(stages)


def _read_layer(found: re.Match[str], kernel: Pair, outs: int, multiple: int) -> Stage:
    size, number, times, parts = found.groups()
    height, _, width = size.partition("x")
    taps = kernel if size == "K" else (int(height), int(width or height))
    if number is not None:
        channels = int(number)
    elif times is None:  # left out
        channels = outs
    else:
        share = int(times or 1) * outs // max(1, int(parts or 1))
        channels = max(1, -(-share // multiple)) * multiple
    if min(*taps, channels, int(times or 1), int(parts or 1)) < 1:
        raise ValueError(f"template layer {found[0]} has a kernel or channels below 1")
    return taps, channels


def path_layers(layer: Layer, path: tuple[Stage, ...]) -> list[Layer]:
    """The ops of a path in place of `layer`, which compute it exactly at borders too, given the right filters.

    All the padding that the path's composite kernel needs, p + d(ΣK − (L − 1) − K)/2, goes to the first layer; the
    stride to the last layer that is larger than 1×1. Raises ValueError where there are no such layers.
    """
    kernels = [kernel for kernel, _ in path]
    op = layer.convolution
    if op is None:
        if any(kernel != (1, 1) for kernel in kernels):
            raise ValueError(f"a linear layer has no kernel {max(kernels)}")
        return [Linear(channels, layer.bias) for _, channels in path]
    whole = composite(kernels)
    height, width = (
        p + d * (new - old) // 2
        for p, d, new, old in zip(op.padding, op.dilation, whole, op.kernel, strict=True)
    )
    if path and min(height, width) < 0:
        raise ValueError(
            f"kernel {op.kernel} with padding {op.padding} leaves borders that a path of kernel {whole} keeps"
        )
    ends = [max((j for j, kernel in enumerate(kernels) if kernel[axis] > 1), default=0) for axis in (0, 1)]
    layers: list[Layer] = []
    for place, (kernel, channels) in enumerate(path):
        high, wide = (stride if end == place else 1 for stride, end in zip(op.stride, ends, strict=True))
        one = replace(op, channels=channels, kernel=kernel, stride=(high, wide), padding=(height, width))
        layers.append(one if place == 0 else replace(one, padding=(0, 0), padding_mode="zeros"))
    return layers
