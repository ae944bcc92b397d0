"""Pictures and texts as bodies of requests: the folder's own processor or tokenizer makes inputs of them."""

import io
import threading
from collections.abc import Callable
from http import HTTPStatus

import numpy as np
from pydantic_core import from_json as parse_json

from ..artifact.folder import PROCESSOR_FILE
from ..artifact.preparation import TextPreparation, load_image_preparation
from ..errors import DataError, first_line
from .model import ServedFolder
from .refusals import RequestError, bad_request

# larger pictures are no inputs of classifiers, and unpack to more memory than a server should give one request
MAX_PIXELS = 50_000_000
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")


class BodyReader:
    """Makes inputs of pictures or texts; transformers is imported, and the processor loaded, with the first of them.

    Args:
        model: The model.
        max_rows: Texts in one request.
    """

    def __init__(self, model: ServedFolder, max_rows: int):
        self._model, self._max_rows = model, max_rows
        self._lock = threading.Lock()
        self._prepare: Callable[[str, bytes], dict[str, np.ndarray]] | None = None

    def read(self, kind: str, body: bytes) -> dict[str, np.ndarray]:
        """Make inputs of a body.

        Args:
            kind: Its content type: ``image/...``, ``text/plain``, or ``application/json`` for a list of texts.
            body: The body.

        Returns:
            Inputs by name, checked.

        Raises:
            RequestError: The folder has no processor, or another one; the body is none of these, or not of this kind.
        """
        with self._lock:  # importing transformers takes seconds, and several threads would all wait for it
            prepare = self._prepare = self._prepare or self._load()
        return self._model.check(prepare(kind, body))

    def _load(self) -> Callable[[str, bytes], dict[str, np.ndarray]]:
        folder, names = self._model.folder, {spec["name"] for spec in self._model.inputs}
        if "input_ids" in names and self._model.tokenizer_files:
            load = self._load_tokenizer
        elif len(names) == 1 and (folder / PROCESSOR_FILE).is_file():
            load = self._load_image_processor
        else:
            raise RequestError(
                HTTPStatus.NOT_IMPLEMENTED,
                f"model '{self._model.name}' has neither an image processor nor a tokenizer; send tensors to "
                f"/v2/models/{self._model.name}/infer",
            )
        self._model.check_unchanged()
        try:
            return load()
        except ModuleNotFoundError as error:
            raise RequestError(
                HTTPStatus.NOT_IMPLEMENTED,
                f"pictures and texts need {error.name}; install the extra `serve` beside `serving`, or send tensors",
            ) from error

    def _load_image_processor(self) -> Callable[[str, bytes], dict[str, np.ndarray]]:
        from PIL import Image

        to_pixels = load_image_preparation(self._model.folder)
        (spec,) = self._model.inputs

        def prepare(kind: str, body: bytes) -> dict[str, np.ndarray]:
            if not kind.startswith("image/"):
                raise _other_kind(kind, "a picture with a Content-Type such as image/png")
            try:
                with Image.open(io.BytesIO(body), formats=_FORMATS) as image:
                    if image.width * image.height > MAX_PIXELS:
                        raise RequestError(
                            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                            f"the picture has {image.width} x {image.height} pixels; this server takes {MAX_PIXELS}",
                        )
                    image.load()
                    return {spec["name"]: to_pixels(image)}
            except RequestError:
                raise
            except DataError as error:
                raise bad_request(f"the picture cannot be used: {error}") from error
            except Exception as error:  # Pillow's readers raise various errors
                known = ", ".join(_FORMATS)
                raise bad_request(f"the body is no picture that can be read; known are {known}") from error

        return prepare

    def _load_tokenizer(self) -> Callable[[str, bytes], dict[str, np.ndarray]]:
        prepare_texts = TextPreparation(self._model.folder, self._model.inputs, self._model.max_tokens)

        def prepare(kind: str, body: bytes) -> dict[str, np.ndarray]:
            tokens = prepare_texts.tokenize(self._texts(kind, body))
            limit, longest = prepare_texts.limit, max(map(len, tokens["input_ids"]))
            if limit is not None and longest > limit:
                raise bad_request(f"a text has {longest} tokens, and the model takes at most {limit}; shorten it")
            return prepare_texts.pad(tokens)

        return prepare

    def _texts(self, kind: str, body: bytes) -> list[str]:
        """Return the texts of a body."""
        try:
            texts = (
                [body.decode()] if kind == "text/plain" else parse_json(body) if kind == "application/json" else None
            )
        except ValueError as error:
            raise bad_request(
                f"the body is no {'UTF-8' if kind == 'text/plain' else 'JSON'}: {first_line(error)}"
            ) from error
        if texts is None:
            raise _other_kind(kind, "a text as text/plain, or a list of texts as application/json")
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise bad_request("the body is no list of texts")
        if not 1 <= len(texts) <= self._max_rows:
            raise bad_request(f"the body has {len(texts)} texts; this server takes 1 to {self._max_rows} in a request")
        return texts


def _other_kind(kind: str, wanted: str) -> RequestError:
    return RequestError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body is of type '{kind[:60]}'; this model takes {wanted}"
    )
