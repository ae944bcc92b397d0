"""Neural Compressor's configs made from a recipe's parameters, and its log output kept from the terminal."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...errors import RecipeError, first_line
from .neural_compressor import import_neural_compressor

if TYPE_CHECKING:
    from neural_compressor.common.base_config import BaseConfig

_LOGGERS = ("neural_compressor", "torch._export", "torch.export", "torch._guards")


def algorithm_config(name: str, parameters: Mapping[str, Any]) -> "BaseConfig":
    """Return Neural Compressor's config of an algorithm.

    Args:
        name: Of the algorithm.
        parameters: As in a recipe.

    Raises:
        RecipeError: Neural Compressor refuses a value.
    """
    import_neural_compressor()
    from neural_compressor.common.base_config import config_registry
    from neural_compressor.torch.quantization import INT8StaticQuantConfig

    kinds = {**config_registry.get_cls_configs()["torch"], "static_quant": INT8StaticQuantConfig}
    # layer-wise it needs the model's files, and a package that it does not declare
    fixed = {"use_layer_wise": False} if name == "rtn" else {}
    try:
        return kinds[name](**{**fixed, **parameters})
    except Exception as error:  # Neural Compressor may raise anything
        raise RecipeError(f"key 'quantization.{name}' is refused by Neural Compressor: {first_line(error)}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the loggers and warnings of Neural Compressor and torch.export."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
