"""Images in tar files, in the layout of webdataset."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, first_line
from ..images import ImageDecoder, ImageFile, is_image_name
from ..images.shards import ShardSample, find_shards, read_shard
from ..recipe.data import DataKind
from ..sources.class_names import encode_labels
from .groups import refuse_groups
from .reader import ReadRequest, SplitReader, find_path
from .webdataset_keys import WebDatasetSource

# endings of files that hold a label, in the order in which they are looked for
_LABELS = ("cls", "json", "txt")


class WebDatasetReader:
    """Reads images and labels from the shards of all splits; images are read from the shards when they are decoded.

    Args:
        source: The stanza.
        request: What else it needs.

    Attributes:
        class_names: In the order of the labels; None if these are numbers.
        image_format: The form of the images.

    Raises:
        DataError: A split has no shards or samples, a sample has no label or several images, or a label is no class;
            others as for `ImageDecoder`.
    """

    def __init__(self, source: WebDatasetSource, request: ReadRequest):
        self._source, self._note = source, request.note
        path = find_path(source)
        listed = {name: self._list_samples(path, name) for name in dict.fromkeys(request.names)}
        every = [sample for samples in listed.values() for _, sample in samples]
        labels = [self._read_label(sample) for sample in every]
        locations = [(f"shard '{sample.path}'", f" of '{sample.name}'") for sample in every]
        numbers, self.class_names = encode_labels(labels, request.find_names(), locations.__getitem__, request.note)
        ends = np.cumsum([len(samples) for samples in listed.values()])
        self._labels = dict(zip(listed, np.split(numbers, ends[:-1]), strict=True))
        files = {name: [image for image, _ in samples] for name, samples in listed.items()}
        self._decode = ImageDecoder(files, request.images, source.max_bad, request.note)
        self.image_format = self._decode.form

    def __call__(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels uint8 (N, C, H, W) and labels int64 (N,) of a split; each split only once."""
        pixels, were_read = self._decode(name)
        return pixels, self._labels[name][were_read]

    def _list_samples(self, path: Path, name: str) -> list[tuple[ImageFile, ShardSample]]:
        """List the samples of a split that have an image."""
        samples = [sample for shard in find_shards(path, name) for sample in read_shard(shard)]
        images = [self._find_image(sample) for sample in samples]
        found = [(image, sample) for image, sample in zip(images, samples, strict=True) if image is not None]
        if not found:
            raise DataError(f"split '{name}' has no images in its shards; check their endings against `data.image`")
        if len(found) < len(samples):
            odd = samples[images.index(None)]
            count = len(samples) - len(found)
            self._note(f"left out of the shards of '{name}': {count} without an image, such as '{_show(odd)}'")
        return found

    def _find_image(self, sample: ShardSample) -> ImageFile | None:
        """Return the image of a sample; None if it has none."""
        if self._source.image is not None:
            return sample.parts.get(self._source.image.lower().lstrip("."))
        found = [ending for ending in sample.parts if is_image_name(f"a.{ending}")]
        if len(found) > 1:
            raise DataError(
                f"sample '{_show(sample)}' has several images, {', '.join(found)}; name one of these endings in "
                "`data.image`"
            )
        return sample.parts[found[0]] if found else None

    def _read_label(self, sample: ShardSample) -> Any:
        wanted: Sequence[str] = _LABELS if self._source.label is None else (self._source.label.lower().lstrip("."),)
        ending = next((each for each in wanted if each in sample.parts), None)
        if ending is None:
            have = ", ".join(sample.parts)
            raise DataError(
                f"sample '{_show(sample)}' has no label, which is a file that ends in {' or '.join(wanted)}; it has "
                f"{have}; name the ending in `data.label`"
            )
        try:
            content = sample.parts[ending].read_part().decode()
            value = json.loads(content) if ending.endswith("json") else content.strip()
        except ValueError as error:
            raise DataError(f"label '{sample.parts[ending]}' cannot be read: {first_line(error)}; repair it") from error
        if isinstance(value, dict):
            if self._source.label_key not in value:
                raise DataError(
                    f"label '{sample.parts[ending]}' has no key '{self._source.label_key}' (there: "
                    f"{', '.join(value)}); name it in `data.label_key`"
                )
            value = value[self._source.label_key]
        if value is None or value == "" or isinstance(value, list | dict):
            raise DataError(f"label '{sample.parts[ending]}' must be one number or name; got {value!r}")
        return value


def _show(sample: ShardSample) -> str:
    return f"{sample.path}/{sample.name}"


def _make(source: WebDatasetSource, request: ReadRequest) -> SplitReader:
    refuse_groups(source)
    return WebDatasetReader(source, request)


KIND = DataKind(WebDatasetSource, _make)
