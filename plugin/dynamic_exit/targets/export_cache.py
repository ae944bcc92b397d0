"""What decides an exported part, and parts that an earlier run has exported."""

from collections.abc import Callable, Sequence
from importlib import metadata
from typing import TypeVar

from torch import Tensor, nn

from ..core.cache import Cache
from ..core.code_fingerprint import CodeFingerprint
from ..core.hashing import array_fingerprint, digest
from ..core.model_fingerprint import environment_fingerprint, module_fingerprint
from ..runtime.stages import ExportedPart

# larger parts are exported faster than the disk is filled with many of them
_LARGEST = 512 * 2**20

PartT = TypeVar("PartT", bound=ExportedPart)


def export_key(exporter: object, module: nn.Module, example: Sequence[Tensor], *options: str) -> str:
    """Return the key of an exported module.

    Args:
        exporter: The class or function that exports it.
        module: In evaluation mode.
        example: Its inputs of two samples.
        *options: Whatever else decides the outcome.
    """
    host = f"neural_compressor {metadata.version('neural_compressor')}"
    return digest(
        "exported", environment_fingerprint("targets"), host, module_fingerprint(module), _code(exporter),
        [array_fingerprint(tensor.numpy()) for tensor in example], options,
    )  # fmt: skip


def _code(exporter: object) -> str:
    code = CodeFingerprint()
    return digest(code.value(exporter), code.sum())


def find_parts(
    cache: Cache | None,
    find_key: Callable[[], str],
    load: Callable[[bytes], PartT],
    make: Callable[[], tuple[PartT, PartT]],
) -> tuple[PartT, PartT]:
    """Return a part in float and as shipped, from the cache if they are there.

    Args:
        cache: Where they may be; None looks nowhere.
        find_key: Returns `export_key`.
        load: Returns the part of a content.
        make: Exports them; the same object twice if nothing is quantized.
    """
    if cache is None:
        return make()
    key = find_key()
    if found := cache.get(key):
        kept = [load(content) for content in found.values()]
        return kept[0], kept[-1]
    plain, shipped = make()
    parts = {"float": plain} if shipped is plain else {"float": plain, "shipped": shipped}
    if sum(part.size for part in parts.values()) <= _LARGEST:
        cache.put(key, {name: part.content for name, part in parts.items()})
    return plain, shipped
