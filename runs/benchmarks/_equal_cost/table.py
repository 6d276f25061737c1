"""Tables of what was measured: means, and paired differences between the engine and each rival."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

from _common import Figure, figure

Record = Mapping[str, Any]
Group = Sequence[Record]  # the records of one data set and budget
# Quantiles of Student's t at 97.5 %, for 1, 2, … degrees of freedom.
T = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
)
AHEAD_OF = ("seed", "sizes, median", "afresh", "no-inheritance", "random", "optuna")
NOT_BEHIND = ("sizes, best by validation", "hand, best by validation")


@dataclass(frozen=True)
class Row:
    """One line: the record that counts for each seed. test: test accuracies, where they aren't the records'."""

    name: str
    records: Mapping[int, Record]
    test: Mapping[int, float]


@dataclass(frozen=True)
class Paired:
    """The engine's test accuracy less a rival's, in points: mean, half of the 95 % interval, wins, pairs."""

    mean: float
    half: float
    wins: int
    n: int

    @property
    def text(self) -> str:
        """As a cell of a table."""
        spread = f" ± {self.half:.2f}" if self.n > 1 else ""
        return f"{self.mean:+.2f}{spread}"


def rows(group: Group) -> list[Row]:
    """The lines of a table: each arm, and for arms with variants the median and the best by validation."""
    arms: dict[str, dict[int, list[Record]]] = {}
    for record in group:
        arms.setdefault(record["arm"], {}).setdefault(record["seed"], []).append(record)
    found: list[Row] = []
    for arm, seeds in arms.items():
        if arm not in ("sizes", "hand"):
            found.append(_row(arm, seeds, _best))
            continue
        if arm == "sizes":
            found.append(
                Row(
                    "sizes, median", {seed: _middle(several) for seed, several in seeds.items()},
                    {seed: median(r["test_accuracy"] for r in several) for seed, several in seeds.items()},
                )
            )  # fmt: skip
            # The ladder that an oracle would climb begins at the seed network itself.
            seeds = {seed: [*several, *arms.get("seed", {}).get(seed, [])] for seed, several in seeds.items()}
        found.append(_row(f"{arm}, best by validation", seeds, _best))
    return found


def _row(name: str, seeds: Mapping[int, list[Record]], choose: Callable[[Iterable[Record]], Record]) -> Row:
    chosen = {seed: choose(several) for seed, several in seeds.items()}
    return Row(name, chosen, {seed: record["test_accuracy"] for seed, record in chosen.items()})


def _best(several: Iterable[Record]) -> Record:
    """The best by validation."""
    return max(several, key=lambda record: (record["val_accuracy"], -record["val_loss"]))


def _middle(several: Sequence[Record]) -> Record:
    return sorted(several, key=lambda record: record["test_accuracy"])[len(several) // 2]


def paired(engine: Row, rival: Row) -> Paired | None:
    """The comparison over the seeds that both have; None without any."""
    gained = [100 * (engine.test[seed] - rival.test[seed]) for seed in engine.test if seed in rival.test]
    if not gained:
        return None
    n = len(gained)
    half = T[min(n - 1, len(T)) - 1] * stdev(gained) / n**0.5 if n > 1 else float("inf")
    return Paired(mean(gained), half, sum(gain > 0 for gain in gained), n)


def table(group: Group) -> str:
    """The comparison on one data set at one budget, in Markdown."""
    lines = [
        "| arm | test accuracy, % | n | engine − arm | wins | cost, of the budget | wall s | parameters "
        "| forward multiply-adds | chosen |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    found = rows(group)
    engine = next((row for row in found if row.name == "engine"), None)
    for row in found:
        records = list(row.records.values())
        test = [100 * value for value in row.test.values()]
        against = paired(engine, row) if engine is not None and row is not engine else None
        chosen = Counter(record["variant"] or record["arm"] for record in records).most_common()
        cells = [
            row.name,
            f"{mean(test):.2f}" + (f" ± {stdev(test):.2f}" if len(test) > 1 else ""),
            str(len(test)),
            against.text if against else "",
            f"{against.wins} of {against.n}" if against else "",
            _mean(record["cost"] / record["budget_cost"] for record in records if record["by_purpose"]),
            _mean((record["seconds"] for record in records), "{:.0f}"),
            _mean((record["params"] for record in records if record["params"]), "{:,.0f}"),
            _mean((record["macs"] / 1e6 for record in records if record["macs"]), "{:.2f} M"),
            ", ".join(f"{name} {count}" for name, count in chosen) if "best" in row.name else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def variants(group: Group) -> str:
    """Each variant of the arms that have several."""
    lines = ["| arm | variant | validation, % | test, % | n |", "|---|---|---|---|---|"]
    several = [record for record in group if record["variant"]]
    for arm, variant in dict.fromkeys((record["arm"], record["variant"]) for record in several):
        records = [r for r in several if (r["arm"], r["variant"]) == (arm, variant)]
        val, test = (_mean(100 * r[score] for r in records) for score in ("val_accuracy", "test_accuracy"))
        lines.append(f"| {arm} | {variant} | {val} | {test} | {len(records)} |")
    return "\n".join(lines) if several else ""


def _mean(values: Iterable[float], form: str = "{:.2f}") -> str:
    known = list(values)
    return form.format(mean(known)) if known else ""


def figures(groups: Mapping[tuple[str, str], Group]) -> list[Figure]:
    """Each comparison as a figure, the share that is sure, and whether all arms kept to the budget."""
    found: list[Figure] = []
    sure: list[bool] = []
    for (data, budget), group in groups.items():
        lines = {row.name: row for row in rows(group)}
        for name, row in lines.items():
            against = paired(lines["engine"], row) if "engine" in lines and name != "engine" else None
            if against is None:
                continue
            title = f"{data}, {budget}: engine minus {name}, n = {against.n}"
            if name in AHEAD_OF and budget != "small":
                sure.append(against.mean - against.half > 0)
                found.append(figure(title, against.mean, "points", "> 0"))
            elif name in NOT_BEHIND and budget == "large":
                found.append(figure(f"{title}, upper end", against.mean + against.half, "points", ">= 0"))
            else:
                found.append(figure(title, against.mean, "points", None))
    if sure:
        found.append(
            figure("comparisons whose interval is above zero", mean(sure), f"of {len(sure)}", ">= 0.667")
        )
    spent = [record["cost"] / record["budget_cost"] for group in groups.values() for record in group]
    if spent:
        found.append(figure("cost, the most of any arm, in budgets", max(spent), "", "<= 1"))
    return found
