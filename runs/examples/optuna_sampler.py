"""An Optuna study of one's own whose sampler is the hill climb: your loop, your training, architectures that grow.

    python runs/examples/optuna_sampler.py [--trials 9] [--folder DIR]

Run it again with the same folder and a larger --trials: it goes on where it was, also after kill −9.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn

from nas.adapters import hill_climb
from nas.adapters.optuna_sampler import HillClimbSampler
from nas.ledger import Store
from search_spaces import SPACES

STEPS = 150


def main() -> None:
    """Optimise, then say what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=9, help="how many the study is to have")
    parser.add_argument("--folder", type=Path, default=None, help="for the study and the networks")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "networks")
    sampler = HillClimbSampler(hill_climb(SPACES["digits"]((1, 8, 8), 10), children=3, seed=0))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/study.db", study_name="digits", load_if_exists=True,
        direction="maximize", sampler=sampler,
    )  # fmt: skip
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)
    train, held = slice(0, 1200), slice(1200, None)
    torch.set_num_threads(1)

    def objective(trial: optuna.Trial) -> float:
        candidate = sampler.candidate(trial)
        parent = candidate.network(store, batches=[(x[:128], y[:128])], loss=nn.functional.cross_entropy)
        module = parent.to_torch()
        lr = trial.suggest_float("lr", 0.01, 0.03, log=True)  # a parameter of your own
        optimizer = torch.optim.SGD(module.parameters(), lr, momentum=0.9, nesterov=True)
        draw = torch.Generator().manual_seed(candidate.seed)
        for _ in range(STEPS):
            chosen = torch.randint(1200, (64,), generator=draw)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x[train][chosen]), y[train][chosen]).backward()
            optimizer.step()
        module.eval()
        with torch.no_grad():
            accuracy = (module(x[held]).argmax(1) == y[held]).float().mean().item()
        trial.set_user_attr("weights", store.put(parent.with_weights_from(module)))
        print(f"{candidate.key:>5}  {accuracy:.2%}  {candidate.moves or 'unchanged'}", flush=True)
        return accuracy

    study.optimize(objective, n_trials=max(0, arguments.trials - len(study.trials)))
    best = sampler.best(study)
    print(f"best: trial {best.number} of {len(study.trials)}, {best.value:.2%}, in {store.folder}")


if __name__ == "__main__":
    main()
