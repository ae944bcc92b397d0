"""Configurations of version 1 of the folder format, as they would be in the current one."""

from collections.abc import Mapping
from typing import Any

from ..chain.spec import by_role
from ..errors import ExportError
from ..recipe.target_registry import DEFAULT_TARGET

#: File of a dynamic model that version 1 saved from memory.
SAVED_MODEL_FILE = "dynamic_model.json"


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a ``config.json`` of version 1 with the keys of the current version.

    A single file of version 1 describes its chain itself, so that `chain` and `default` are None there.

    Args:
        values: Content of the file.

    Raises:
        ExportError: It lists parts without a key that they need.
    """
    # transformers leaves out the names that it gives two classes by itself
    values = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, **values}
    parts = values.get("parts")
    if not parts and values.get("layout", "single") == "single":
        common = {"chain": None, "files": {"model": "model.onnx"}, "layout": "single"}
        kept = {key: value for key, value in values.items() if value is not None}
        return {"stages": (), "inputs": (), "target": DEFAULT_TARGET, **common, **kept}
    try:
        chain, files = _chain(parts or {}, values["inputs"])
        default = (parts or {})["default"]
    except (KeyError, TypeError) as error:
        raise ExportError(f"config.json breaks the format of `parts` at {error}; export it anew") from error
    rest = {key: value for key, value in values.items() if key not in ("parts", "stages")}
    return {"target": DEFAULT_TARGET, **rest, "chain": chain, "files": files, "default": default}


def upgrade_saved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a ``dynamic_model.json``, as version 1 saved models from memory, with the current keys.

    Raises:
        ExportError: It is of another type, or a key is missing.
    """
    try:
        if (values["_type"], values["_version"]) != ("dynamic_exit.torch_model", 1):
            came = f"{values['_type']} version {values['_version']}"
            raise ExportError(f"'{SAVED_MODEL_FILE}' is {came}; this program reads dynamic_exit.torch_model version 1")
        parts = {
            "fuse": values["fuse"],
            "segments": values["segments"],
            "savers": [each for each in values["stages"] if each["position"] < 0],
            "exits": [each for each in values["stages"] if each["position"] >= 0],
            "notes": values.get("notes", ()),
        }
        chain, files = _chain(parts, [{"name": name} for name in values["input_names"]])
        thresholds = list(map(float, values["thresholds"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{SAVED_MODEL_FILE} breaks its format at {error}; save the model anew") from error
    return {"chain": chain, "files": files, "thresholds": thresholds}


def _chain(parts: Mapping[str, Any], inputs: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return chain and files of the `parts` of version 1."""
    segments, savers, exits, taps = (parts[key] for key in ("segments", "savers", "exits", "notes"))
    stages = [(each, -1) for each in savers] + [(each, each["position"]) for each in exits]
    chain = {
        "inputs": [each["name"] for each in inputs],
        "segments": [each["takes"] for each in segments],
        "stages": [{"name": each["name"], "position": place, "inputs": each["takes"]} for each, place in stages],
        "taps": [{"position": each["position"], "inputs": each["takes"]} for each in taps],
        "evidence": parts["fuse"],
    }
    return chain, {role: each["file"] for role, each in by_role(segments, savers, exits, taps).items()}
