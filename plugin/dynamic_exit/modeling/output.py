"""What a dynamic model answers."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers.modeling_outputs import ImageClassifierOutput, SequenceClassifierOutput


@dataclass
class DynamicExitOutput(ImageClassifierOutput, SequenceClassifierOutput):
    """The output of a dynamic model: transformers' for classifiers, and who answered.

    Attributes:
        loss: Always None, as `hidden_states` and `attentions` are.
        logits: float32 (N, C).
        exit_index: int64 (N,): index of the stage that answered; the final stage is the last.
        confidence: float32 (N,) in 0..1: how sure the answer is, by the rule of the operating point.
    """

    logits: torch.Tensor | np.ndarray | None = None  # type: ignore[assignment]  # numpy for those who give numpy
    exit_index: torch.Tensor | np.ndarray | None = None
    confidence: torch.Tensor | np.ndarray | None = None
