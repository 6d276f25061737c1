"""The rows and arms of CompNet's tables, with the paper's figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row of the paper's tables. inserted: phi of the new layer; kept: Table 1; paper: Table 2, in percent."""

    name: str
    net: str  # lenet or vgg
    parent: str  # phi of the parent, which rows may share
    inserted: str
    redundant: int
    kept: tuple[int, int, int]
    paper: tuple[float, ...]  # Alg1, Alg2, Alg3, Oracle, Redundant, Scratch
    seeds: int = 1


ROWS = (
    Row("LeNet4 to LeNet5 (ReLU)", "lenet", "relu", "relu", 100, (41, 46, 49),
        (99.15, 99.20, 99.18, 99.17, 99.18, 99.19), 3),
    Row("VGG15 to VGG16 (ReLU)", "vgg", "relu", "relu", 512, (165, 200, 255),
        (84.74, 84.50, 83.31, 83.44, 82.38, 83.14), 3),
    Row("VGG15 to VGG16 (Sigmoid)", "vgg", "relu", "sigmoid", 512, (196, 162, 105),
        (83.63, 83.71, 83.08, 83.25, 82.54, 69.97)),
    Row("VGG15 to VGG16 (TanH)", "vgg", "relu", "tanh", 512, (213, 178, 157),
        (83.68, 83.52, 83.86, 83.41, 83.00, 80.70)),
    Row("VGG15 to VGG16, all Sigmoid", "vgg", "sigmoid", "sigmoid", 512, (196, 162, 105), (0.0,) * 6),
    Row("VGG15 to VGG16, all TanH", "vgg", "tanh", "tanh", 512, (213, 178, 157), (0.0,) * 6),
)  # fmt: skip
ARMS = ("Alg1", "Alg2", "Alg3", "NetMorph-Oracle", "NetMorph-Redundant", "Scratch")
CHANCE = 0.15  # a parent below this accuracy has not learned
