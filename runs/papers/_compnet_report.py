"""CompNet's tables and figures from the state file's lines."""

from __future__ import annotations

from statistics import mean

from _common import Figure, figure
from _compnet_rows import ARMS, CHANCE, ROWS
from _state import Record


def line(r: Record) -> str:
    """A result for the log."""
    parts = [f"{r['row']:<28} seed {r['seed']}  {r['kind']:<7}{r['arm']:<20}"]
    if r.get("notes"):
        parts.append(" ".join(f"{k}={v:.4g}" for k, v in r["notes"].items()))
    parts += [f"{k} {r[k]:.4f}" for k in ("after", "test") if k in r]
    return "  ".join([*parts, f"{r['seconds']:.0f} s"])


def report(records: list[Record]) -> list[str]:
    """Both tables, and what the choices kept, as Markdown; means over seeds."""
    lines = ["| row | arm | neurons | right after, % | test, % | epochs to parent | paper: neurons, % | n |"]
    lines.append("|---" * 8 + "|")
    for row in ROWS:
        for number, arm in enumerate(ARMS):
            found = [r for r in records if (r["kind"], r["row"], r["arm"]) == ("arm", row.name, arm)]
            if found:
                reached = [r["epochs_to_parent"] for r in found]
                paper = [f"{row.kept[number]} of {row.redundant}"] if number < 3 and row.paper[number] else []
                paper += [f"{row.paper[number]:.2f}"] if row.paper[number] else []
                lines.append(
                    f"| {row.name} | {arm} | {found[0]['kept']} of {found[0]['before']} "
                    f"| {100 * mean(r['after'] for r in found):.2f} | {100 * mean(r['test'] for r in found):.2f} "
                    f"| {', '.join('never' if e is None else f'{e:.2g}' for e in reached)} "
                    f"| {', '.join(paper)} | {len(found)} |"
                )
    lines += [
        "",
        "| row | rule | neurons | error of L2 | right after, % | lambda, alpha | n |",
        "|---" * 7 + "|",
    ]
    for row, arm in dict.fromkeys((r["row"], r["arm"]) for r in records if r["kind"] == "choice"):
        found = [r for r in records if (r["kind"], r["row"], r["arm"]) == ("choice", row, arm)]
        kept, error = (mean(r["notes"][k] for r in found) for k in ("kept", "error"))
        used = ", ".join(
            f"{r['notes'].get('penalty', 0):.3g}, {r['notes'].get('alpha', 0):.3g}" for r in found[:1]
        )
        lines.append(
            f"| {row} | {arm} | {kept:.0f} | {error:.3f} | {100 * mean(r['after'] for r in found):.2f} "
            f"| {used} | {len(found)} |"
        )
    for r in records:
        if r["kind"] == "parent":
            state = " AT CHANCE: rows of this parent are left out" if r["test"] < CHANCE else ""
            lines.append(f"parent {r['row']}, seed {r['seed']}: test {100 * r['test']:.2f} %{state}")
    return lines


def figures(records: list[Record]) -> list[Figure]:
    """The paper's claims: as accurate as the rivals, and better neurons than by chance."""
    made: list[Figure] = []

    def tests(row: str, arm: str) -> list[float]:
        return [r["test"] for r in records if (r["kind"], r["row"], r["arm"]) == ("arm", row, arm)]

    for row in ROWS:
        for arm in ("Alg1", "Alg2", "Alg3"):
            ours, rival = tests(row.name, arm), tests(row.name, "NetMorph-Redundant")
            if ours and rival:
                gain = 100 * (mean(ours) - mean(rival))
                made.append(
                    figure(
                        f"{row.name}: {arm} minus NetMorph-Redundant, n = {len(ours)}", gain, "points", ">= 0"
                    )
                )
    for r in records:
        if r["kind"] == "choice" and r["arm"].endswith("literal"):
            made.append(
                figure(f"{r['row']}, seed {r['seed']}: {r['arm']} keeps", r["notes"]["kept"], "neurons", None)
            )
    return made or [figure("results", len(records), "lines", None)]
