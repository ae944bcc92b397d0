"""What a model was trained to tell: one class a sample, or something that no early exit can answer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import ModelError

aten = torch.ops.aten
_WANTED = "and early exits answer with one class a sample; give a single-label classifier"
# operators after which values are still what they were, and those that put several tensors side by side
_COPIES = (aten._to_copy, aten.clone, aten.index, aten.index_select, aten.copy_, aten.clamp)
_JOINS = (aten.cat, aten.stack)
_SIGMOIDS = (aten.sigmoid, aten.sigmoid_, aten.hardsigmoid, aten.hardsigmoid_)


def check_objective(model: nn.Module, name: str) -> None:
    """Refuse a Hugging Face model that was trained for several labels at once, or for numbers.

    Its logits are no rivals, and a softmax over them says nothing. A model that wraps one, and hands on its answer, is
    refused, too.

    Args:
        model: Any module.
        name: Whom the message speaks of.

    Raises:
        ModelError: Its configuration, or that of a classifier inside, says so.
    """
    for part in model.modules():
        # encoders have the configuration of what they were taken from
        if part is model or type(part).__name__.endswith("Classification"):
            check_configuration(getattr(part, "config", None), name)


def check_configuration(config: Any, name: str) -> None:
    """Refuse a Hugging Face configuration of a model for several labels at once, or for numbers.

    Args:
        config: Of any kind, or None.
        name: Whom the message speaks of.

    Raises:
        ModelError: It is.
    """
    kind, outputs = getattr(config, "problem_type", None), getattr(config, "num_labels", None)
    if kind in ("multi_label_classification", "regression"):
        said = "multi-label classification" if kind != "regression" else kind
        raise ModelError(f"{name} is for {said} (`problem_type` in its configuration), {_WANTED}")
    if kind is None and isinstance(outputs, int) and outputs == 1:
        raise ModelError(f"{name} is for regression (`num_labels` is 1 in its configuration), {_WANTED}")


def answer_without_sigmoid(classifier: nn.Module, inputs: Sequence[Tensor], name: str) -> Tensor:
    """Run a classifier, and refuse one whose answer, of more than one column, comes out of a sigmoid.

    Args:
        classifier: In evaluation mode.
        inputs: Its inputs, of few samples.
        name: Whom the message speaks of.

    Returns:
        What it answers.

    Raises:
        ModelError: Its last operator is a sigmoid.
    """
    with torch.no_grad(), _Makers() as makers:
        answer = classifier(*inputs)
        maker = makers.of(answer)
    if maker in _SIGMOIDS and answer.dim() == 2 and answer.shape[1] > 1:
        raise ModelError(f"{name} ends in a sigmoid, as models for multi-label classification do, {_WANTED}")
    return answer


class _Makers(TorchDispatchMode):
    """Notes which operator made the values of every tensor."""

    def __init__(self):
        super().__init__()
        self._makers: dict[int, Any] = {}

    def of(self, tensor: Tensor) -> Any:
        """Return the operator, or None where none was seen."""
        return self._makers.get(tensor.untyped_storage().data_ptr())

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        packet = operator.overloadpacket
        given = [each for each in (args[0] if packet in _JOINS else args) if isinstance(each, Tensor)]
        before = {each.untyped_storage().data_ptr(): self.of(each) for each in given}
        made = operator(*args, **(kwargs or {}))
        makers = set(before.values())
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if not isinstance(tensor, Tensor):
                continue
            place = tensor.untyped_storage().data_ptr()
            if packet in _COPIES:
                source = given[-1] if packet is aten.copy_ else given[0]
                self._makers[place] = before.get(source.untyped_storage().data_ptr())
            elif place not in before or operator._schema.is_mutable:
                self._makers[place] = makers.pop() if packet in _JOINS and len(makers) == 1 else packet
        return made
