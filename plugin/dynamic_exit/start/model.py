"""Where a model comes from, by what the user calls it, and what it takes."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError, nearest

_FUNCTION = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):\w+")
_TIMM = ("timm/", "hf-hub:", "hf_hub:", "local-dir:")


@dataclass(frozen=True)
class FoundModel:
    """A model, as a recipe names it.

    Attributes:
        stanza: The recipe's `model`, without its preprocessing.
        described: One phrase on it.
        class_count: Number of its classes; None if unknown before it is built.
        channels: Channels of the images that it takes; None if unknown.
        states_pixels: Whether it states the size and range of the images that it was trained on.
        size: Height and width of these images; None if they are not known before it is built.
    """

    stanza: Mapping[str, Any]
    described: str
    class_count: int | None = None
    channels: int | None = None
    states_pixels: bool = False
    size: tuple[int, int] | None = None

    @property
    def short_name(self) -> str:
        """A name for files."""
        last = re.split(r"[/:]", str(self.stanza["name"]).rstrip("/"))[-1]
        return re.sub(r"[^\w.-]", "-", re.sub(r"\.(py|onnx)$", "", last)) or "model"


@dataclass(frozen=True)
class _Shapes:
    """Shapes of the weights of a file, by name."""

    by_name: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def find(self, layer: str) -> tuple[int, ...] | None:
        """Return the shape of a layer's weight, whatever prefixes its name has in the file."""
        ending = f"{layer}.weight"
        return next(
            (shape for name, shape in self.by_name.items() if name == ending or name.endswith(f".{ending}")), None
        )

    @property
    def channels(self) -> int | None:
        """Channels of images, as some convolution takes so many; files do not say which one comes first."""
        taken = {shape[1] for shape in self.by_name.values() if len(shape) == 4}
        return next((channels for channels in (3, 1) if channels in taken), None)


def find_model(name: str, weights: str | None) -> FoundModel:
    """Find out where a model comes from.

    Args:
        name: ``timm/resnet18``, a name of Hugging Face, a folder, ``file.py:function``, or an .onnx file.
        weights: File of its weights; None if it brings them.

    Raises:
        ModelError: There is no such model.
    """
    if weights is not None and not Path(weights).expanduser().exists():
        raise ModelError(f"weights '{weights}' do not exist; check the path")
    given = {"weights": weights} if weights else {}
    if name.endswith(".onnx"):
        raise ModelError(
            f"model '{name}' is an ONNX file, which cannot be cut; give the model that it was made of, or the file as "
            "--candidate for a saver"
        )
    if _FUNCTION.fullmatch(name) and not name.startswith(_TIMM):
        return _from_function(name, given)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(name, folder, given)
    if name.startswith(("/", ".", "~")):
        raise ModelError(f"model folder '{name}' does not exist; check the path")
    if name.startswith(_TIMM):
        return _from_timm(name, given, weights)
    if "/" not in name and _is_timm(name):
        return _from_timm(name, given, weights)
    return FoundModel({"source": "transformers", "name": name, **given}, f"{name} of Hugging Face", None, None, True)


def find_candidate(name: str) -> FoundModel:
    """Find out where a small model comes from: as `find_model`, or an .onnx file; ``=FILE`` behind it names weights.

    Raises:
        ModelError: There is no such model.
    """
    if name.endswith(".onnx"):
        if not Path(name).expanduser().is_file():
            raise ModelError(f"candidate '{name}' does not exist; check the path")
        return FoundModel({"source": "onnx", "name": name}, f"the ONNX file {name}")
    name, _, weights = name.partition("=")
    return find_model(name, weights or None)


def _from_function(name: str, given: Mapping[str, str]) -> FoundModel:
    file, _, function = name.rpartition(":")
    if file.endswith(".py") and not Path(file).expanduser().is_file():
        raise ModelError(f"model file '{file}' does not exist; check the path")
    channels = _read_shapes(Path(given["weights"])).channels if given else None
    return FoundModel(
        {"source": "python", "name": name, **given}, f"the function {function} of {file}", None, channels, False
    )


def _from_folder(name: str, folder: Path, given: Mapping[str, str]) -> FoundModel:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelError(
            f"model folder '{name}' has no config.json that can be read; give a folder that save_pretrained wrote"
        ) from None
    if "architecture" in config:  # as timm writes it
        return FoundModel(
            {"source": "timm", "name": f"local-dir:{name}", **given},
            f"timm's {config['architecture']} in {name}",
            config.get("num_classes"),
            None,
            True,
            _size(config.get("pretrained_cfg", config)),
        )
    if config.get("model_type") == "dynamic_exit":
        raise ModelError(f"model folder '{name}' holds a dynamic model already; give the model that it was made of")
    classes = len(config["id2label"]) if config.get("id2label") else None
    path = name if name.startswith(("/", ".", "~")) else f"./{name}"  # a bare name would be taken for one of the hub
    described = f"{config.get('model_type', 'a model')} of transformers in {name}"
    return FoundModel({"source": "transformers", "name": path, **given}, described, classes, None, True)


def _is_timm(name: str) -> bool:
    import timm

    return bool(timm.is_model(name))


def _from_timm(name: str, given: Mapping[str, str], weights: str | None) -> FoundModel:
    import timm

    known = name.removeprefix("timm/")
    if not name.startswith(_TIMM[1:]) and not timm.is_model(known):
        hint = nearest(known.split(".")[0], timm.list_models())
        raise ModelError(f"timm has no model '{known}'; {hint[:200]}")
    stanza: dict[str, Any] = {"source": "timm", "name": known, **given}
    if name.startswith(_TIMM[1:]):
        return FoundModel(stanza, f"timm's {known}", None, None, True)
    config = timm.get_pretrained_cfg(known, allow_unregistered=True)
    size = _size(config.to_dict()) if config else None
    if weights is None:
        stanza["arguments"] = {"pretrained": True}
        classes = config.num_classes if config else None
        return FoundModel(stanza, f"timm's {known} with its own weights", classes, 3, True, size)
    shapes = _read_shapes(Path(weights).expanduser())
    heads, first = _first(config and config.classifier), _first(config and config.first_conv)
    head, stem = shapes.find(heads) if heads else None, shapes.find(first) if first else None
    classes, channels = head[0] if head else None, stem[1] if stem and len(stem) == 4 else None
    stanza["arguments"] = {"num_classes": classes} if classes else {}
    if channels not in (None, 3):
        stanza["arguments"]["in_chans"] = channels
    return FoundModel(stanza, f"timm's {known} with the weights {weights}", classes, channels, True, size)


def _size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the height and width that a configuration of timm states."""
    size = config.get("input_size")
    return (int(size[-2]), int(size[-1])) if size else None


def _first(names: object) -> str | None:
    return names if isinstance(names, str) else str(names[0]) if isinstance(names, list | tuple) and names else None


def _read_shapes(path: Path) -> _Shapes:
    """Read the shapes of the weights of a file; none of a file that cannot be read, which loading explains."""
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                return _Shapes({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118
        import torch

        return _Shapes(_flatten(torch.load(path, map_location="cpu", weights_only=True, mmap=True)))
    except Exception:  # of the many readers' errors, the one that matters is raised when weights are loaded
        return _Shapes()


def _flatten(entries: object, prefix: str = "") -> dict[str, tuple[int, ...]]:
    if hasattr(entries, "shape"):
        return {prefix: tuple(entries.shape)}
    if not isinstance(entries, Mapping):
        return {}
    return {
        key: shape
        for name, each in entries.items()
        for key, shape in _flatten(each, f"{prefix}.{name}" if prefix else str(name)).items()
    }
