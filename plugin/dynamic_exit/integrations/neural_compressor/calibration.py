"""What a calibration function feeds a model: recorded once, then fed to any model."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import DynamicExitError, PassError, first_line

# fewer cannot be split into samples for training and samples for tuning
_FEWEST = 4


@dataclass(frozen=True)
class CalibrationCalls:
    """Calls of a model, in order: the positional and the named arguments of each."""

    made: tuple[tuple[tuple, dict[str, Any]], ...]

    def replay(self, model: nn.Module) -> None:
        """Call a model alike; this is a calibration function."""
        with torch.no_grad():
            for arguments, named in self.made:
                model(*arguments, **named)

    def only_input(self, name: str) -> tuple[Tensor, str | None]:
        """Return the one input of all calls, (N, ...), and its name where it was given by name.

        Args:
            name: Of the pass that asks, for messages.

        Raises:
            PassError: Other than one tensor a call, or too few samples.
        """
        for arguments, named in self.made:
            values = (*arguments, *named.values())
            if len(values) != 1 or not isinstance(values[0], Tensor):
                raise PassError(f"pass '{name}' takes models of one tensor in memory; `run_fn` gives "
                                f"{_told(arguments, named)}; run a recipe instead")  # fmt: skip
        tensors, keywords = self.inputs(name)
        return tensors[0], keywords and keywords[0]

    def inputs(self, name: str) -> tuple[tuple[Tensor, ...], tuple[str, ...] | None]:
        """Return the inputs of all calls, each (N, ...), and their names where they were given by name.

        Args:
            name: Of the pass that asks, for messages.

        Raises:
            PassError: Other things than tensors, too few samples, or calls that are unlike each other.
        """
        keywords = tuple(self.made[0][1])
        for arguments, named in self.made:
            values = (*arguments, *named.values())
            if not values or not all(isinstance(value, Tensor) for value in values) or (arguments and named):
                raise PassError(f"pass '{name}' takes tensors, all by position or all by name; `run_fn` gives "
                                f"{_told(arguments, named)}; run a recipe instead")  # fmt: skip
            if len(arguments) != len(self.made[0][0]) or named.keys() != set(keywords):
                raise PassError(f"`run_fn` gives pass '{name}' its input in different ways; use one name in all calls")
        rows = [(*arguments, *(named[keyword] for keyword in keywords)) for arguments, named in self.made]
        if sum(len(batch[0]) for batch in rows) < _FEWEST:
            raise PassError(
                f"`run_fn` gave pass '{name}' fewer than {_FEWEST} samples; let it call the model on more batches"
            )
        try:
            joined = tuple(torch.cat([tensor.detach().cpu() for tensor in each]) for each in zip(*rows, strict=True))
        except RuntimeError as error:
            raise PassError(f"`run_fn` gives pass '{name}' batches of unlike samples: {first_line(error)}") from error
        return joined, keywords or None


def _told(arguments: tuple, named: dict[str, Any]) -> str:
    return ", ".join([type(value).__name__ for value in arguments] + list(named)) or "nothing"


class CalibrationRecorder(nn.Module):
    """A model between `prepare` and `convert`: it answers as the model does and remembers its calls."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.made: list[tuple[tuple, dict[str, Any]]] = []
        self.training = model.training

    def forward(self, *arguments, **named):
        """Answer as the model does."""
        self.made.append((arguments, named))
        return self.model(*arguments, **named)


def record_calibration(model: nn.Module, run_fn: Callable, run_args: Any = None) -> CalibrationCalls:
    """Return the calls that a calibration function makes; the model stays as it was.

    Args:
        model: What it calls.
        run_fn: As Neural Compressor takes it: calls the model on batches.
        run_args: Its further positional arguments.

    Raises:
        PassError: The function fails, or never calls the model.
    """
    made: list[tuple[tuple, dict[str, Any]]] = []
    hook = model.register_forward_pre_hook(lambda _, inputs, named: made.append((inputs, named)), with_kwargs=True)
    arguments = run_args if isinstance(run_args, Iterable) else ()
    try:
        with torch.no_grad():
            run_fn(model, *arguments)
    except DynamicExitError:
        raise
    except Exception as error:  # the user's own code
        raise PassError(f"`run_fn` failed with {type(error).__name__}: {first_line(error)}") from error
    finally:
        hook.remove()
    if not made:
        raise PassError("`run_fn` never called the model; let it call the model that it is given, on calibration data")
    return CalibrationCalls(tuple(made))
