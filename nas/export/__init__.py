"""Export of a found network as a folder that needs only torch, with a model card."""

from nas.export.card import Ancestor, ModelCard, Score
from nas.export.trial import export_trial
from nas.export.write import export

__all__ = ["Ancestor", "ModelCard", "Score", "export", "export_trial"]
