"""Pictures and texts as inputs of a model: through the image processor or the tokenizer of its folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .manifest import InputSpec

if TYPE_CHECKING:
    from PIL import Image

# tokenizers without a limit state a huge one
_NO_LIMIT = 1_000_000


def load_image_preparation(folder: Path) -> "Callable[[Image.Image], np.ndarray]":
    """Load the image processor of a folder.

    Returns:
        A function from an image, as Pillow opens it, to pixels (1, C, H, W), for any thread. It raises `DataError` for
        an image whose pixels have a range that is not known.

    Raises:
        ModuleNotFoundError: Transformers, torch or Pillow is not installed.
    """
    from ..images import decode_image
    from .image_processor import DynamicExitImageProcessor

    # isort: split
    from transformers import AutoImageProcessor  # after ours, which keeps its import quiet

    processor = AutoImageProcessor.from_pretrained(folder)
    decodes = isinstance(processor, DynamicExitImageProcessor)  # as the recipe did

    def prepare(image: "Image.Image") -> np.ndarray:
        decoded = image if decodes else decode_image(image).image.convert("RGB")
        return np.asarray(processor(decoded, return_tensors="np")["pixel_values"])

    return prepare


class TextPreparation:
    """The tokenizer of a folder; safe from any thread.

    Args:
        folder: The folder.
        inputs: The model's inputs.
        max_tokens: Maximum number of tokens that the model takes; None if unlimited or stated by its inputs.

    Attributes:
        limit: Maximum number of tokens that the model takes; None if unlimited.

    Raises:
        ModuleNotFoundError: Transformers is not installed.
    """

    def __init__(self, folder: Path, inputs: Sequence[InputSpec], max_tokens: int | None):
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._names = {spec["name"] for spec in inputs}
        fixed = next(spec["shape"][0] for spec in inputs if spec["name"] == "input_ids")
        self._fixed = fixed if isinstance(fixed, int) else None
        self.limit = max_tokens if self._fixed is None else self._fixed

    def tokenize(self, *columns: list[str], truncate: bool = False) -> dict[str, list[list[int]]]:
        """Tokenize texts, or pairs of them if there are two columns.

        Args:
            *columns: One list of N texts, or two.
            truncate: Whether texts are cut where the recipe cuts them.

        Returns:
            Lists of N lists, by the tokenizer's names for them.
        """
        limits = [each for each in (self.limit, self._tokenizer.model_max_length) if each is not None]
        if truncate and min(limits) < _NO_LIMIT:
            return dict(self._tokenizer(*columns, truncation=True, max_length=min(limits)))
        return dict(self._tokenizer(*columns))

    def pad(self, tokens: dict[str, list[list[int]]]) -> dict[str, np.ndarray]:
        """Fill tokenized texts up to the length of the longest, or that which the model takes.

        Returns:
            The model's inputs, each (N, L), by name.
        """
        length = max(2, *map(len, tokens["input_ids"])) if self._fixed is None else self._fixed
        padded = self._tokenizer.pad(tokens, padding="max_length", max_length=length, return_tensors="np")
        return {name: np.asarray(value) for name, value in padded.items() if name in self._names}
