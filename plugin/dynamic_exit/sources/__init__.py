"""Model and data sources: they load what a recipe names, and check it.

`models` builds classifiers, `data` reads splits. The names in the public list below are those that both share.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .class_names import ClassNames, encode_labels, find_class_names
    from .labels import find_class_order, find_model_labels
    from .run_inputs import RunInputs
    from .tokenizer import load_tokenizer, save_tokenizer, token_limit

__all__ = [
    "ClassNames",
    "RunInputs",
    "encode_labels",
    "find_class_names",
    "find_class_order",
    "find_model_labels",
    "load_tokenizer",
    "save_tokenizer",
    "token_limit",
]

# on first use: these modules import torch
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "class_names": ("ClassNames", "encode_labels", "find_class_names"),
        "labels": ("find_class_order", "find_model_labels"),
        "run_inputs": ("RunInputs",),
        "tokenizer": ("load_tokenizer", "save_tokenizer", "token_limit"),
    },
)
