"""The contract of every move, on many random cases: a graph of tests/strategies/ and a chain of 1 to 10 moves.

For each step of a chain: the listed site applies, the child's graph is the one its listing promised, is well formed
(as its JSON form it reads back and it runs), and computes what the move declares: in float64 within 1e-10, in float32
within the larger of 1e-5 and ten times the parent's own float32-against-float64 error; in eval and train mode for
`exact`, in eval mode for `exact in eval`; anything finite for `approximate`. The parent stays as it was, bit for bit.
The chain's text replays to bit-identical weights. Drift is measured here, not taken from `apply`.

Hypothesis draws the cases in portions of 50, each fixed by its number, and shrinks what fails to a minimal case, which
is printed. Portions are kept in out/ for the code they were measured with: an interrupted test goes on, a changed move
starts afresh. Moves come from morphs.MOVES, menus from tests/strategies/, and `widen(how=gradient)` besides.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from faults.figures import OUT, Figure
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from strategies import MENUS, lively, networks, ripe, some_batches

import morphs
from morphs import Limits, Move, Network, Preserves
from morphs.errors import IllegalMove
from morphs.examples import in_type, random_inputs

ROOT = Path(__file__).parents[2]
PORTION = 50
ALL = {
    **MENUS,
    "widen": {**MENUS["widen"], "how": ("replicate", "zero", "gradient")},
}  # here a loss is at hand
LIMITS = Limits(params=20_000, nodes=80)  # so that ten moves do not end in a network that takes a second
Probes = tuple[torch.Tensor, ...]
Record = dict[str, Any]  # what came of a portion, as it is kept


def examined(done: Sequence[Record], least: int) -> list[Figure]:
    """The figures of some portions; the first failures are printed. least: how many cases there have to be."""
    failures = [text for record in done if (text := record["failure"])]
    for text in failures[:5]:
        print(f"\n{text}")
    cases = len({case for record in done for case in record["cases"]})
    kinds = sum((Counter(record["moves"]) for record in done), Counter[str]())
    for kind in (move.name for move in morphs.MOVES):
        print(f"{kind:<20} applied {kinds[kind]:>7} times")
    wrong = Counter(record["kind"] for record in done if record["kind"])
    every = len(morphs.MOVES) if least >= PORTION else 1  # few cases have no place for every kind
    worst = {dtype: max(record["worst"][dtype] for record in done) for dtype in ("float64", "float32")}
    return [
        Figure("different cases (network, chain, seed)", cases, "", f">= {least}"),
        Figure("moves applied", sum(kinds.values()), "", "> 0"),
        Figure("kinds of moves applied", len(kinds), f"of {len(morphs.MOVES)}", f">= {every}"),
        Figure("portions that failed", len(failures), f"of {len(done)}", "== 0"),
        Figure("invalid graphs", wrong["graph"], "", "== 0"),
        Figure("mutated parents", wrong["parent"], "", "== 0"),
        Figure("drifts beyond what was declared", wrong["drift"], "", "== 0"),
        Figure("replays that differ", wrong["replay"], "", "== 0"),
        Figure("worst float64 drift of an exact step", worst["float64"]),
        Figure("worst float32 drift of an exact step", worst["float32"]),
    ]


def many(cases: int, first: int = 0, jobs: int = 2) -> list[Record]:
    """Portions, from the state file or newly run, until there are enough cases."""
    OUT.mkdir(exist_ok=True)
    state = OUT / "move_contract.jsonl"
    code = version()
    done = {record["number"]: record for record in read(state) if record["code"] == code}
    done = {number: record for number, record in done.items() if number >= first}
    begin = time.perf_counter()

    def enough() -> bool:
        return len({case for record in done.values() for case in record["cases"]}) >= cases

    fresh = (number for number in range(first, 10**9) if number not in done)
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        while not enough():
            numbers = [next(fresh) for _ in range(4 * jobs)]
            for answer in as_completed([pool.submit(portion, number) for number in numbers]):
                record = {**answer.result(), "code": code}
                done[record["number"]] = record
                with state.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                failed = " FAILED" if record["failure"] else ""
                print(f"portion {record['number']}: {len(record['cases'])} cases{failed}", flush=True)
            print(f"{time.perf_counter() - begin:.0f} s", flush=True)
    return list(done.values())


def version() -> str:
    """A digest of the code under test."""
    folders = ROOT / "morphs", ROOT / "tests" / "strategies"
    sources = [*(path for folder in folders for path in sorted(folder.rglob("*.py"))), Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def read(state: Path) -> Iterator[Record]:
    """The state file's records; a line cut short is none."""
    for line in state.read_text().splitlines() if state.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


class Broken(AssertionError):
    """The contract does not hold; `kind` is graph, parent, drift, replay or apply."""

    def __init__(self, kind: str, fact: str) -> None:
        super().__init__(fact)
        self.kind = kind


@dataclass
class Tally:
    """What a portion saw."""

    cases: set[str] = field(default_factory=set)
    moves: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=lambda: {"float64": 0.0, "float32": 0.0})


def portion(number: int, size: int = PORTION) -> Record:
    """The cases of one portion; its first failure shrunk to a minimal case."""
    tally = Tally()
    failure, kind = "", ""

    @seed(number)
    @settings(
        max_examples=size, database=None, deadline=None, report_multiple_bugs=False, print_blob=False,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=st.data())
    def explore(data: Any) -> None:
        one_case(data, tally)

    try:
        explore()
    except Broken as broken:
        failure, kind = f"portion {number}: {broken}", broken.kind
    return {
        "number": number, "cases": sorted(tally.cases), "moves": dict(tally.moves), "worst": tally.worst,
        "failure": failure, "kind": kind,
    }  # fmt: skip


def one_case(data: Any, tally: Tally) -> None:
    """Draw a network and a chain, and hold every step and the whole chain against the contract."""
    dtype = data.draw(st.sampled_from((torch.float64, torch.float32)))
    parent = data.draw(networks(dtype=dtype))
    parent = ripe(parent) if data.draw(st.sampled_from((False, False, True))) else parent
    begin, number = data.draw(st.integers(0, 2**31)), data.draw(st.integers(1, 10))
    probes = probes_for(parent, begin)
    batches = some_batches(parent)
    net, chain = parent, []
    try:
        before = run(net, probes)
        for step in range(number):
            site = draw_site(data, net)
            if site is None:
                break
            chain.append(str(site))
            try:
                net, before = one_step(net, site, begin + step, before, probes, batches, tally)
            except IllegalMove:  # what only the data shows: the loss has no gradient there
                if getattr(site, "how", "") != "gradient":
                    raise
                chain.pop()
                break
        replay(parent, chain, begin, batches, net)
    except Broken as broken:
        raise Broken(broken.kind, reproducer(broken, parent, chain, begin)) from broken
    except Exception as error:
        fact = f"{type(error).__name__}: {error}"
        raise Broken("apply", reproducer(fact, parent, chain, begin)) from error
    if chain:
        tally.moves.update(text.partition("(")[0] for text in chain)
        tally.cases.add(hashlib.sha256(f"{parent.digest}{chain}{begin}".encode()).hexdigest()[:16])


def draw_site(data: Any, net: Network) -> Move | None:
    """A site of a random kind of move: kinds first, so that the rare ones come up too.

    Of its menu one value for each choice is drawn first, since listing the sites of all of them takes most of the time.
    """
    for move in data.draw(st.permutations(morphs.MOVES)):
        menu = ALL.get(move.name, {})
        drawn = {choice: (data.draw(st.sampled_from(values)),) for choice, values in menu.items()}
        sites = list(move.sites(net, LIMITS, drawn)) or (list(move.sites(net, LIMITS, menu)) if drawn else [])
        if sites:
            return data.draw(st.sampled_from(sites))
    return None


def one_step(
    net: Network,
    site: Move,
    begin: int,
    before: dict[bool, torch.Tensor],
    probes: Probes,
    batches: Any,
    tally: Tally,
) -> tuple[Network, dict[bool, torch.Tensor]]:
    """Apply `site` and check the child against its parent; the child and its outputs."""
    kept = {key: tensor.clone() for key, tensor in net.weights.items()}
    text = net.graph.to_json()
    child = morphs.apply(net, str(site), begin, batches, loss, measure=False).network
    if net.graph.to_json() != text or any(not torch.equal(net.weights[key], t) for key, t in kept.items()):
        raise Broken("parent", f"{site} wrote into its parent")
    if child.graph != site.reshape(net.graph) or morphs.graph_from_json(child.graph.to_json()) != child.graph:
        raise Broken("graph", f"{site} made another graph than it listed, or one that does not read back")
    if LIMITS.violation(child.graph) is not None:
        raise Broken("graph", f"{site} broke the limits it was listed with")
    after = run(child, probes)
    for training in (False, True):
        check_drift(net, site, training, before[training], after[training], probes, tally)
    return child, after


def check_drift(
    net: Network,
    site: Move,
    training: bool,
    before: torch.Tensor,
    after: torch.Tensor,
    probes: Probes,
    tally: Tally,
) -> None:
    """Hold one mode's drift against what the move declares and DESIGN §4 allows."""
    mode = "train" if training else "eval"
    if after.shape != before.shape or not bool(torch.isfinite(after).all()):
        raise Broken("graph", f"{site}: in {mode} mode the child's output is misshapen or not finite")
    if site.preserves is Preserves.APPROXIMATE or (training and site.preserves is Preserves.EXACT_IN_EVAL):
        return
    found = relative(before, after)
    allowed = 1e-10 if net.dtype == torch.float64 else 1e-5
    if found > allowed:  # by more than rounding does, which float32 shows for float64 as well
        scale = 10.0 if net.dtype == torch.float32 else 10.0 * 2**-29
        noise = (run(nudged(net, seed), probes, torch.float32)[training] for seed in range(3))
        allowed = max(allowed, *(scale * relative(before, again) for again in noise))
    if not found <= allowed:
        raise Broken("drift", f"{site}: drift {found:.2e} in {mode} mode, {allowed:.0e} allowed")
    name = "float32" if net.dtype == torch.float32 else "float64"
    tally.worst[name] = max(tally.worst[name], found)


def replay(parent: Network, chain: list[str], begin: int, batches: Any, last: Network) -> None:
    """The chain's text gives the same bits again."""
    again = parent
    for child in morphs.apply_chain(parent, "; ".join(chain), begin, batches, loss, measure=False):
        again = child.network
    if again.digest != last.digest:
        raise Broken("replay", "the chain's replay has other weights")


def run(net: Network, probes: Probes, dtype: torch.dtype = torch.float64) -> dict[bool, torch.Tensor]:
    """What the network computes in eval (False) and in train mode (True), dropout off, as float64 [N, …]."""
    module = net.to(dtype).to_torch()
    out: dict[bool, torch.Tensor] = {}
    for training in (False, True):  # eval mode first: it reads the running statistics that train mode writes
        module.train(training)
        for part in module.modules():
            if isinstance(part, (torch.nn.Dropout, torch.nn.RNNBase)):
                part.eval()
        with torch.no_grad():
            out[training] = module(*(in_type(probe, dtype) for probe in probes)).double()
    return out


def nudged(net: Network, seed: int) -> Network:
    """`net` with weights that are off by the last bit that float32 has: rounding, which some networks amplify."""
    draws, fine = torch.Generator().manual_seed(seed), net.to(torch.float64)
    signs = {k: 1 - 2 * torch.randint(2, t.shape, generator=draws) for k, t in fine.weights.items()}
    return Network(
        net.graph,
        {k: t * (1 + signs[k] * 2.0**-24) if t.is_floating_point() else t for k, t in fine.weights.items()},
    )


def relative(before: torch.Tensor, after: torch.Tensor) -> float:
    """max over probes of ‖after − before‖∞ / ‖before‖∞; absolute where `before` is zero.

    An output below a hundredth of the largest is compared with the largest: it may have cancelled to nothing.
    """
    error, size = ((t.abs().flatten(1).amax(1)) for t in (after - before, before))
    size = torch.where(size < 1e-2 * size.max(), size.max(), size)
    return float((error / torch.where(size > 0, size, torch.ones_like(size))).max())


def probes_for(net: Network, begin: int) -> Probes:
    """Four examples for each input, standard normal or of whole numbers."""
    return random_inputs(net.graph, 4, torch.Generator().manual_seed(begin), torch.float64)


def loss(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, for moves that follow a gradient; maps count as long vectors."""
    return torch.nn.functional.cross_entropy(out.flatten(1), target)


def reproducer(fact: object, parent: Network, chain: list[str], begin: int) -> str:
    """Everything that is needed to see it again."""
    graph = parent.graph.text().strip().replace("\n", "\n    ")
    return (
        f"{fact}\n  network: {recipe(parent)}\n  graph:\n    {graph}\n"
        f"  chain, from seed {begin}: {'; '.join(chain)}"
    )


def recipe(parent: Network) -> str:
    """The call of tests/strategies/ that makes this network of its graph."""
    for number in range(100):
        net = lively(parent.graph, number, parent.dtype)
        call = f"lively(graph, {number}, {parent.dtype})"
        if net.digest == parent.digest:
            return call
        if ripe(net).digest == parent.digest:
            return f"ripe({call})"
    return f"of digest {parent.digest}"
