"""Binary models of one logit, such as those trained with binary cross-entropy, as classifiers of two classes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .classifier import Classifier
from .failures import FORWARD_ERRORS
from .logits import find_single_logit
from .objective import find_producer, is_sigmoid


class TwoLogits(nn.Module):
    """Answers with the logits (-z / 2, z / 2) of two classes, whose probabilities are those of a model's logit z.

    Args:
        model: Its output holds one logit (N,) or (N, 1); it takes the same inputs.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, *inputs: Tensor, **by_name: Tensor) -> Tensor:
        """Return the logits (N, 2)."""
        samples = (*inputs, *by_name.values())[0].shape[0]
        logit = find_single_logit(self.model(*inputs, **by_name), samples)
        if logit is None:
            raise ModelError("a binary model must give one logit a sample; its output has changed")
        half = logit.reshape(-1, 1) / 2
        return torch.cat([-half, half], 1)


def with_two_logits(
    classifier: Classifier, inputs: Sequence[Tensor], name: str, note: Callable[[str], None]
) -> Classifier:
    """Let a binary model of one logit answer with two; leave others as they are.

    Args:
        classifier: In evaluation mode.
        inputs: At least two samples.
        name: How messages call it.
        note: Receives that it was done.

    Returns:
        The classifier, or another one around its model.

    Raises:
        ModelError: Its only output ends in a sigmoid.
    """
    try:
        answer, producer = find_producer(lambda: find_single_logit(classifier.answer(*inputs), len(inputs[0])))
    except FORWARD_ERRORS:  # whatever it is, `check_logits` says it next
        return classifier
    if answer is None or classifier.class_order is not None or classifier.logits is not None:
        return classifier
    if is_sigmoid(producer):
        raise ModelError(f"{name} ends in a sigmoid over its only output, and logits are wanted; leave the sigmoid out")
    note(f"{name} gives one logit z, which is taken as the logits -z/2 and z/2 of two classes")
    return Classifier(
        TwoLogits(classifier.model),
        keywords=classifier.keywords,
        input_names=classifier.input_names,
        preprocessing=classifier.preprocessing,
        untrained=classifier.untrained,
    )
