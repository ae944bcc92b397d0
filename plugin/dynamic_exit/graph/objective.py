"""Checks that a model predicts one class per sample, which is all that early exits can answer."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import DynamicExitError, ModelError
from .classifier import Classifier
from .failures import FORWARD_ERRORS, explain_forward_failure

aten = torch.ops.aten
_SINGLE_LABEL = "and early exits answer with one class a sample; give a single-label classifier"
# operators that keep values as they are, and those that concatenate tensors
_COPIES = (aten._to_copy, aten.clone, aten.index, aten.index_select, aten.copy_, aten.clamp)
_JOINS = (aten.cat, aten.stack)
_Answer = TypeVar("_Answer")
_SIGMOIDS = (aten.sigmoid, aten.sigmoid_, aten.hardsigmoid, aten.hardsigmoid_)


def check_objective(model: nn.Module, name: str) -> None:
    """Refuse a Hugging Face model for multi-label classification or regression.

    A softmax over its outputs has no meaning. A module that wraps such a model is refused as well.

    Args:
        model: Any module.
        name: The name of the model in messages.

    Raises:
        ModelError: The configuration of the model, or of a classifier inside it, is for another task.
    """
    for part in model.modules():
        # an encoder alone keeps the configuration of the model that it was taken from
        if part is model or type(part).__name__.endswith("Classification"):
            check_configuration(getattr(part, "config", None), name)


def check_configuration(config: object, name: str) -> None:
    """Refuse a Hugging Face configuration for multi-label classification or regression.

    Args:
        config: A configuration of any class, or None.
        name: The name of the model in messages.

    Raises:
        ModelError: The configuration is for another task.
    """
    kind, outputs = getattr(config, "problem_type", None), getattr(config, "num_labels", None)
    if kind in ("multi_label_classification", "regression"):
        said = "multi-label classification" if kind != "regression" else kind
        raise ModelError(f"{name} is for {said} (`problem_type` in its configuration), {_SINGLE_LABEL}")
    if kind is None and isinstance(outputs, int) and outputs == 1:
        raise ModelError(f"{name} is for regression (`num_labels` is 1 in its configuration), {_SINGLE_LABEL}")


def answer_without_sigmoid(classifier: nn.Module, inputs: Sequence[Tensor], name: str) -> Tensor:
    """Run a classifier and refuse one whose output, of more than one column, is the result of a sigmoid.

    Args:
        classifier: In evaluation mode.
        inputs: A few samples.
        name: The name of the model in messages.

    Returns:
        Its output (N, C).

    Raises:
        ModelError: Its last operator is a sigmoid.
    """
    answer: Tensor
    answer, producer = find_producer(lambda: classifier(*inputs))
    if is_sigmoid(producer) and answer.dim() == 2 and answer.shape[1] > 1:
        raise ModelError(f"{name} ends in a sigmoid, as models for multi-label classification do, {_SINGLE_LABEL}")
    return answer


def find_producer(run: Callable[[], _Answer]) -> tuple[_Answer, object]:
    """Run a model, and return its output with the operator that produced its values; None if that was not seen."""
    with torch.no_grad(), _ProducerMode() as producers:
        answer = run()
        return answer, producers.of(answer) if isinstance(answer, Tensor) else None


def is_sigmoid(operator: object) -> bool:
    """Whether an operator of torch is a sigmoid."""
    return operator in _SIGMOIDS


class _ProducerMode(TorchDispatchMode):
    """Records which operator produced the values of every tensor."""

    def __init__(self) -> None:
        super().__init__()
        self._producers: dict[int, object] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, 60 MB and two seconds, to keep it from compiling what is below

    def of(self, tensor: Tensor) -> object:
        """Return the operator; None if it was not seen."""
        return self._producers.get(tensor.untyped_storage().data_ptr())

    def __torch_dispatch__(
        self, operator: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        packet = operator.overloadpacket
        given = [each for each in (args[0] if packet in _JOINS else args) if isinstance(each, Tensor)]
        before = {each.untyped_storage().data_ptr(): self.of(each) for each in given}
        made = operator(*args, **(kwargs or {}))
        sources = set(before.values())
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if not isinstance(tensor, Tensor):
                continue
            place = tensor.untyped_storage().data_ptr()
            if packet in _COPIES:
                source = given[-1] if packet is aten.copy_ else given[0]
                self._producers[place] = before.get(source.untyped_storage().data_ptr())
            elif place not in before or operator._schema.is_mutable:
                self._producers[place] = sources.pop() if packet in _JOINS and len(sources) == 1 else packet
        return made


def check_logits(name: str, classifier: Classifier, example: tuple[Tensor, ...]) -> Tensor:
    """Run a classifier on an example and check its logits.

    Args:
        name: How error messages call the classifier.
        classifier: In evaluation mode.
        example: Inputs, each (N, ...).

    Returns:
        The logits (N, C), all finite.

    Raises:
        ModelError: It refuses the example, its logits are not finite or not (N, C), C above 0, it ends in a sigmoid or
            a softmax, or it answers otherwise when asked again.
    """
    try:
        logits = answer_without_sigmoid(classifier, example, name)
        with torch.no_grad():
            again = classifier(*example)
    except DynamicExitError:
        raise
    except FORWARD_ERRORS as error:
        shapes = " and ".join(str(list(tensor.shape)) for tensor in example)
        hint = "set `data.text.max_length`" if classifier.input_names else "set its `preprocessing`"
        raise ModelError(f"{name} refuses inputs of shape {shapes}: {explain_forward_failure(error, hint)}") from error
    if logits.dim() != 2:
        raise ModelError(f"{name} must give logits (N, C); got the shape {list(logits.shape)}")
    if logits.shape[1] == 0:
        raise ModelError(f"{name} must give logits (N, C); got none for any class")
    if len(logits) != len(example[0]):
        raise ModelError(f"{name} must give a row of logits for each sample; got {len(logits)} for {len(example[0])}")
    if not torch.isfinite(logits).all():
        raise ModelError(f"{name} gives NaN or infinite logits; check its weights and preprocessing")
    if logits.shape[1] > 1 and (logits >= 0).all() and torch.allclose(logits.float().sum(1), torch.ones(1)):
        raise ModelError(f"{name} gives probabilities where logits are wanted; leave its softmax out")
    if logits.shape != again.shape or not torch.allclose(
        logits, again, rtol=1e-3, atol=1e-3 * float(logits.abs().max())
    ):
        raise ModelError(
            f"{name} answers the same samples otherwise when asked again; keep dropout, random numbers and counters "
            "out of its evaluation mode"
        )
    return logits
