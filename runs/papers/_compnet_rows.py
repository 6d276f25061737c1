"""The rows and arms of CompNet's tables, with the paper's figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row of the paper's tables.

    net:      lenet or vgg: the data, the length of training and its settings.
    base:     the parent's architecture, and `parent` its phi; rows may share both. after: the row whose trained child
              of Algorithm 1 is the parent instead.
    node:     the layer before which the new one is inserted, and `inserted` the phi of that.
    kept:     Table 1. paper: Table 2, in percent.
    """

    name: str
    net: str
    base: str
    parent: str
    node: str
    inserted: str
    redundant: int
    kept: tuple[int, int, int]
    paper: tuple[float, ...]  # Alg1, Alg2, Alg3, Oracle, Redundant, Scratch
    seeds: int = 1
    after: str = ""

    @property
    def shared(self) -> str:
        """The parent's name in the state file."""
        known = {"lenet4": "lenet", "vgg15": "vgg"}
        return f"{known.get(self.base, self.base)} {self.parent}"


ROWS = (
    Row("LeNet4 to LeNet5 (ReLU)", "lenet", "lenet4", "relu", "c2", "relu", 100, (41, 46, 49),
        (99.15, 99.20, 99.18, 99.17, 99.18, 99.19), 3),
    Row("VGG15 to VGG16 (ReLU)", "vgg", "vgg15", "relu", "c8", "relu", 512, (165, 200, 255),
        (84.74, 84.50, 83.31, 83.44, 82.38, 83.14), 3),
    Row("VGG15 to VGG16 (Sigmoid)", "vgg", "vgg15", "relu", "c8", "sigmoid", 512, (196, 162, 105),
        (83.63, 83.71, 83.08, 83.25, 82.54, 69.97)),
    Row("VGG15 to VGG16 (TanH)", "vgg", "vgg15", "relu", "c8", "tanh", 512, (213, 178, 157),
        (83.68, 83.52, 83.86, 83.41, 83.00, 80.70)),
    Row("VGG16 to VGG17 (ReLU)", "vgg", "vgg16", "relu", "c7", "relu", 256, (155, 121, 127),
        (85.45, 85.37, 85.78, 85.69, 85.51, 82.71), 3, "VGG15 to VGG16 (ReLU)"),
    Row("VGG18 to VGG19 (ReLU)", "vgg", "vgg18", "relu", "c9", "relu", 512, (221, 211, 255),
        (89.00, 88.84, 88.90, 88.95, 88.87, 85.26), 3),
    Row("VGG15 to VGG16, all Sigmoid", "vgg", "vgg15", "sigmoid", "c8", "sigmoid", 512, (196, 162, 105), (0.0,) * 6),
    Row("VGG15 to VGG16, all TanH", "vgg", "vgg15", "tanh", "c8", "tanh", 512, (213, 178, 157), (0.0,) * 6),
)  # fmt: skip
QUICK = tuple(row for row in ROWS if row.base in ("lenet4", "vgg16")) + ROWS[1:2]
ARMS = ("Alg1", "Alg2", "Alg3", "NetMorph-Oracle", "NetMorph-Redundant", "Scratch")
CHANCE = 0.15  # a parent below this accuracy has not learned
