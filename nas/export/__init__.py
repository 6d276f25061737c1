"""Export of a network as a folder that needs only torch, with a model card where there is one."""

from nas.export.card import Ancestor, ModelCard, Score
from nas.export.trial import export_trial, trial_network
from nas.export.write import export, read_card

__all__ = ["Ancestor", "ModelCard", "Score", "export", "export_trial", "read_card", "trial_network"]
