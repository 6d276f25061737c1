"""The memory that training takes, estimated before a search starts, and a batch that fits it."""

from __future__ import annotations

from dataclasses import replace

from morphs import ArchGraph, cost
from nas.base.errors import UserError
from nas.base.machine import available_memory
from nas.base.text import size
from nas.run.plan import Plan

# A training step holds what each node writes, for the backward pass, and the largest of it once or twice more: measured
# 0.8 to 1.4 times 4 bytes for each number, on the seed networks of three spaces.
BYTES = 6.0
BASE = 150 * 2**20  # of the process, most of whose memory a forked worker shares
SHARE = 0.5  # of what is available: networks grow during a search


def training_bytes(graph: ArchGraph, batch: int) -> float:
    """Estimated bytes of training `graph` with batches of so many images: activations, weights with gradient, momentum
    and average, and the process.
    """
    spent = cost(graph)
    return BASE + 16.0 * spent.params + BYTES * batch * spent.activations


def fitted(plan: Plan, available: int | None = None) -> tuple[Plan, str | None]:
    """`plan` with the batch halved until every worker can train the seed network in memory, and a sentence that says
    so; the plan itself and None where it fits, or where the memory is not this machine's or not known.

    available: bytes; None: ask the system. Raises UserError, with the remedies, if not even a batch of 2 fits.
    """
    config = plan.config
    if config.device != "cpu" or config.address is not None:
        return plan, None
    have = available_memory() if available is None else available
    if have is None:
        return plan, None
    asked = batch = min(config.train.batch_size, max(2, plan.images))
    graph, room = plan.space.seed, SHARE * have / config.workers
    while batch > 2 and training_bytes(graph, batch) > room:
        batch = max(2, batch // 2)
    need = config.workers * training_bytes(graph, batch)
    if need > SHARE * have:
        raise UserError(
            f"search: training the seed network takes about {size(int(need))} even with batches of {batch}, and "
            f"{size(have)} are free, half of which is left for growth; lower --workers (now {config.workers}), "
            "make the images smaller (imagefolder:PATH?size=N), or choose a space with a smaller seed network"
        )
    if batch == asked:
        return plan, None
    whole = config.workers * training_bytes(graph, asked)
    said = (
        f"batches of {batch} images instead of {asked}, which would take about {size(int(whole))} of the {size(have)} "
        "that are free; set train.batch_size in a recipe, lower --workers or make the images smaller"
    )
    train = replace(config.train, batch_size=batch)
    return replace(plan, config=config.model_copy(update={"train": train})), said
