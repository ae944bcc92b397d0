"""Recording of a calibration function's calls, so that they can be repeated on any model."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...core.placement import device_of
from ...errors import DynamicExitError, PassError, first_line

#: Fewer samples cannot be split into a training half and a tuning half.
MIN_SAMPLES = 4
#: Positional and keyword arguments of one call of a model.
Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class CalibrationCalls:
    """The calls that a calibration function makes.

    Attributes:
        calls: Positional and keyword arguments of each call, in order.
    """

    calls: tuple[Call, ...]

    @classmethod
    def of_example(cls, example_inputs: Tensor | Sequence[Any]) -> "CalibrationCalls":
        """Repeat example inputs, a tensor or several arguments, for what needs nothing but their shape."""
        arguments = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
        return cls(((arguments, {}),) * MIN_SAMPLES)

    def replay(self, model: nn.Module) -> None:
        """Repeat the calls on a model, wherever it is by then; usable as `run_fn`."""

        def move(value: Any) -> Any:
            return value.to(device_of(model)) if isinstance(value, Tensor) else value

        with torch.no_grad():
            for arguments, keywords in self.calls:
                model(*(move(each) for each in arguments), **{name: move(each) for name, each in keywords.items()})

    def only_input(self, name: str) -> tuple[Tensor, str | None]:
        """Concatenate the batches of a model with one input.

        Args:
            name: Name of the pass, for messages.

        Returns:
            The input, (N, ...), and its keyword; None if it was passed by position.

        Raises:
            PassError: A call has other arguments than one tensor, or there are too few samples.
        """
        for arguments, keywords in self.calls:
            values = (*arguments, *keywords.values())
            if len(values) != 1 or not isinstance(values[0], Tensor):
                raise PassError(f"pass '{name}' takes models of one tensor in memory; `run_fn` gives "
                                f"{_describe(arguments, keywords)}; run a recipe instead")  # fmt: skip
        tensors, names = self.inputs(name)
        return tensors[0], names[0] if names else None

    def inputs(self, name: str) -> tuple[tuple[Tensor, ...], tuple[str, ...] | None]:
        """Concatenate the batches of each input.

        Args:
            name: Name of the pass, for messages.

        Returns:
            The inputs, each (N, ...), and their keywords; None if they were passed by position.

        Raises:
            PassError: Arguments other than tensors, too few samples, or calls that differ in their arguments.
        """
        names = tuple(self.calls[0][1])
        for arguments, keywords in self.calls:
            values = (*arguments, *keywords.values())
            if not values or not all(isinstance(value, Tensor) for value in values) or (arguments and keywords):
                raise PassError(f"pass '{name}' takes tensors, all by position or all by name; `run_fn` gives "
                                f"{_describe(arguments, keywords)}; run a recipe instead")  # fmt: skip
            if len(arguments) != len(self.calls[0][0]) or keywords.keys() != set(names):
                raise PassError(f"`run_fn` gives pass '{name}' its input in different ways; use one name in all calls")
        batches = [(*arguments, *(keywords[each] for each in names)) for arguments, keywords in self.calls]
        if sum(len(batch[0]) for batch in batches) < MIN_SAMPLES:
            raise PassError(
                f"`run_fn` gave pass '{name}' fewer than {MIN_SAMPLES} samples; let it call the model on more batches"
            )
        try:
            inputs = tuple(torch.cat([each.detach().cpu() for each in column]) for column in zip(*batches, strict=True))
        except RuntimeError as error:
            raise PassError(f"`run_fn` gives pass '{name}' batches of unlike samples: {first_line(error)}") from error
        return inputs, names or None


def _describe(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
    return ", ".join([type(value).__name__ for value in arguments] + list(keywords)) or "nothing"


class CalibrationRecorder(nn.Module):
    """What `prepare` returns: answers as the model does and records its calls for `convert`.

    Attributes:
        model: The prepared model.
        calls: Its calls so far.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.calls: list[Call] = []
        self.training = model.training

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Record the call and return the model's answer."""
        self.calls.append((arguments, keywords))
        return self.model(*arguments, **keywords)


def require_calls(name: str, calls: CalibrationCalls | None) -> CalibrationCalls:
    """Return the calls of a pass that needs calibration.

    Raises:
        PassError: There are none.
    """
    if calls is None:
        raise PassError(f"pass '{name}' needs `run_fn`, which calls the model on calibration batches")
    return calls


def record_calibration(model: nn.Module, run_fn: Callable[..., Any], run_args: Any = None) -> CalibrationCalls:
    """Run a calibration function and record its calls; the model does not change.

    Args:
        model: Passed to the function.
        run_fn: Calls the model on batches.
        run_args: Further positional arguments of the function; as in Neural Compressor ignored unless iterable.

    Raises:
        PassError: The function fails or never calls the model.
    """
    calls: list[Call] = []
    hook = model.register_forward_pre_hook(lambda _, inputs, named: calls.append((inputs, named)), with_kwargs=True)
    arguments = run_args if isinstance(run_args, Iterable) else ()
    try:
        with torch.no_grad():
            run_fn(model, *arguments)
    except DynamicExitError:
        raise
    except Exception as error:  # user code may raise anything
        raise PassError(f"`run_fn` failed with {type(error).__name__}: {first_line(error)}") from error
    finally:
        hook.remove()
    if not calls:
        raise PassError("`run_fn` never called the model; let it call the model that it is given, on calibration data")
    return CalibrationCalls(tuple(calls))
