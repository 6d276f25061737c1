"""The VGG networks of both papers, for images of 32 × 32 pixels."""

from __future__ import annotations

# Convolutions of each stage. VGG15 and VGG18 are VGG16 and VGG19 without their first convolution of 512 filters.
STAGES = {"vgg15": (2, 2, 3, 2, 3), "vgg16": (2, 2, 3, 3, 3), "vgg18": (2, 2, 4, 3, 4)}


def vgg(name: str, width: int, phi: str) -> str:
    """A network of STAGES with activation phi; `width` stands for the papers' 64. No batch norms."""
    lines, read, number = ["x = input(size=[3, 32, 32])"], "x", 0
    for stage, (times, count) in enumerate(zip((1, 2, 4, 8, 8), STAGES[name], strict=True)):
        for _ in range(count):
            number += 1
            lines.append(f"c{number} = conv2d({read}, channels={times * width}, kernel=3, padding=1)")
            lines.append(f"r{number} = {phi}(c{number})")
            read = f"r{number}"
        lines.append(f"m{stage} = max_pool2d({read}, kernel=2)")
        read = f"m{stage}"
    lines += [f"f = flatten({read})", f"fc1 = linear(f, features={8 * width})", f"a = {phi}(fc1)",
              "o = dropout(a)", "fc2 = linear(o, features=10)", "y = output(fc2)"]  # fmt: skip
    return "\n".join(lines)
