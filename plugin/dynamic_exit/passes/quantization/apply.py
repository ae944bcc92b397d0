"""Neural Compressor's configs from a recipe's parameters, and its chatter kept from the terminal."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import RecipeError, first_line

_LOGGERS = ("neural_compressor", "torch._export", "torch.export", "torch._guards")


def config_of(name: str, parameters: Mapping[str, Any]):
    """Return Neural Compressor's config of an algorithm.

    Args:
        name: Of the algorithm.
        parameters: As in a recipe.

    Raises:
        RecipeError: Neural Compressor refuses a value.
    """
    import transformers  # noqa: F401  Neural Compressor must be imported after it
    from neural_compressor.common.base_config import config_registry
    from neural_compressor.torch.quantization import INT8StaticQuantConfig

    kinds = {**config_registry.get_cls_configs()["torch"], "static_quant": INT8StaticQuantConfig}
    # layer by layer it wants a model's files, and a package that it does not declare
    fixed = {"use_layer_wise": False} if name == "rtn" else {}
    try:
        return kinds[name](**{**fixed, **parameters})
    except Exception as error:  # Neural Compressor raises anything
        raise RecipeError(f"key 'quantization.{name}' is refused by Neural Compressor: {first_line(error)}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what Neural Compressor and torch.export tell of their inner steps away from the user's terminal."""
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
