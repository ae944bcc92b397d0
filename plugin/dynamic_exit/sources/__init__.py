"""Model sources: `models` builds the classifiers that a recipe names; labels and tokenizers come with them."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .class_names import ClassNames, encode_labels, find_class_names
    from .labels import find_class_order, find_model_labels
    from .tokenizer import load_tokenizer, save_tokenizer, token_limit

__all__ = [
    "ClassNames",
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
        "tokenizer": ("load_tokenizer", "save_tokenizer", "token_limit"),
    },
)
