"""Any classifier as a function from tensors to logits."""

import inspect
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import ModelError, nearest
from .logits import find_logits
from .preprocessing import Preprocessing

_T = TypeVar("_T")


class Classifier(nn.Module):
    """Any model as a function from positional tensors to logits.

    The model is shared, neither copied nor changed; it is the attribute ``model``.

    Args:
        model: The user's module. Its output may be a tensor, a tuple, a dict or a Hugging Face ``ModelOutput``.
        keywords: Names under which inputs are passed to the model, in order; None passes them by position.
        input_names: Names of the chain's inputs that the model takes; None takes all, in order.
        preprocessing: Applied to images (the only input, else every input of four dimensions), or None.
        logits: Key, attribute or index of the logits in the output; None finds them.
        class_order: For each class of the common order, its index in the model; may also drop classes.
        untrained: Names of the model's parameters that are known to be random.

    Raises:
        ModelError: The model is not a module, or does not take a keyword.
    """

    class_order: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        *,
        keywords: Sequence[str] | None = None,
        input_names: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        logits: str | int | None = None,
        class_order: Sequence[int] | None = None,
        untrained: Sequence[str] = (),
    ):
        super().__init__()
        if not isinstance(model, nn.Module):
            raise ModelError(f"a model must be a torch.nn.Module; got {type(model).__name__}")
        self.model = model
        self.preprocessing = preprocessing
        self.keywords = None if keywords is None else tuple(keywords)
        self.input_names = None if input_names is None else tuple(input_names)
        self.logits = logits
        self.untrained = tuple(untrained)
        order = None if class_order is None else torch.tensor(list(class_order), dtype=torch.int64)
        self.register_buffer("class_order", order, persistent=False)
        self._check_keywords()
        # not .train(mode), which would change the user's module
        self.training = model.training

    def _check_keywords(self) -> None:
        if self.keywords is None:
            return
        if len(set(self.keywords)) != len(self.keywords) or not self.keywords:
            raise ModelError(f"keywords must be unique and at least one; got {list(self.keywords)}")
        parameters = inspect.signature(self.model.forward).parameters
        if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
            return
        for keyword in self.keywords:
            if keyword not in parameters:
                raise ModelError(
                    f"{type(self.model).__name__} takes no input '{keyword}'; {nearest(keyword, parameters)}"
                )

    def name_inputs(self, count: int) -> tuple[str, ...]:
        """Return names for ``count`` inputs: the keywords, else the arguments of the model's ``forward``.

        Raises:
            ModelError: The number of inputs differs from the number of keywords.
        """
        if self.keywords is not None:
            if count != len(self.keywords):
                raise ModelError(f"{count} inputs came in for the {len(self.keywords)} keywords {list(self.keywords)}")
            names = list(self.keywords)
        else:
            positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            parameters = inspect.signature(self.model.forward).parameters.values()
            names = [each.name for each in parameters if each.kind in positional][:count]
            names += [f"input_{index}" for index in range(len(names), count)]
        # segments use these names for their outputs
        return tuple(f"{name}_" if name in ("hidden", "logits") else name for name in names)

    def select(self, inputs: Mapping[str, _T]) -> tuple[_T, ...]:
        """Return the chain's inputs that the model takes, in the order of ``forward``."""
        return tuple(inputs.values() if self.input_names is None else (inputs[name] for name in self.input_names))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the model.

        Args:
            *inputs: Tensors, batch first, in the order of ``keywords`` or of the model's signature.

        Returns:
            (N, C) logits.

        Raises:
            ModelError: The output holds no logits, or several candidates and no name was given.
        """
        logits = find_logits(self.answer(*inputs), self.logits)
        return logits if self.class_order is None else logits[:, self.class_order]

    def answer(self, *inputs: Tensor) -> object:
        """Return what the model itself answers, in whatever form."""
        if self.preprocessing is not None:
            only = len(inputs) == 1
            inputs = tuple(self.preprocessing(x) if only or x.dim() == 4 else x for x in inputs)
        if self.keywords is None:
            return self.model(*inputs)
        return self.model(**dict(zip(self.keywords, inputs, strict=True)))
