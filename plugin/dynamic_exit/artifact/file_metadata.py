"""What an ONNX file says of itself in its metadata: a copy of the manifest, for users without this package."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..chain.spec import BEFORE_ALL, ChainSpec
from ..errors import ExportError, first_line
from ..trust.json_file import parse_json
from .manifest import CONFIG_FILE, InputSpec, Manifest

if TYPE_CHECKING:
    import onnx


def complete(manifest: Manifest, metadata: Mapping[str, str], inputs: Sequence[InputSpec]) -> Manifest:
    """Return a manifest with what folders of older versions leave to their file.

    Args:
        manifest: Of a folder of one file.
        metadata: Of the file, as JSON.
        inputs: Of the file.

    Raises:
        ExportError: They describe no chain, or the inputs are others than the file's.
    """
    own, named = {each["name"] for each in inputs}, {each["name"] for each in manifest.inputs}
    if named and named != own:
        raise ExportError(
            f"{CONFIG_FILE} names the inputs {', '.join(sorted(named))}, the model takes {', '.join(sorted(own))}; "
            "export it anew"
        )
    given: dict[str, Any] = {} if manifest.inputs else {"inputs": tuple(inputs)}
    if manifest.chain is None:
        given |= {"chain": file_chain(metadata, inputs), "default": _default(metadata)}
    return manifest.model_copy(update=given) if given else manifest


def _default(metadata: Mapping[str, str]) -> Any:
    try:
        return parse_json(metadata.get("default", "null"))
    except ValueError as error:
        raise ExportError(f"the file's metadata 'default' break the format: {error}; export it anew") from error


def read_metadata(model: "onnx.ModelProto") -> dict[str, str]:
    """Return the metadata of a file, as JSON."""
    return {entry.key: entry.value for entry in model.metadata_props}


def file_chain(metadata: Mapping[str, str], inputs: Sequence[InputSpec]) -> ChainSpec | None:
    """Return the chain that a file describes, without taps, which it does not name; None if it describes none.

    Args:
        metadata: Of the file, as JSON.
        inputs: Of the file.

    Raises:
        ExportError: It breaks the format.
    """
    if "chain" not in metadata:
        return None
    try:
        parts = parse_json(metadata["chain"])
        stages = [{**each, "behind": BEFORE_ALL} for each in parts["savers"]] + parts["exits"]
        # files of older versions name the rule alone
        parameters = {key: parts[key] for key in ("confidence", "powers", "gates") if key in parts}
        return ChainSpec.model_validate(
            {
                "inputs": [each["name"] for each in inputs],
                "segments": [each["takes"] for each in parts["segments"]],
                "stages": [
                    {"name": each["name"], "position": each["behind"], "inputs": each["takes"]} for each in stages
                ],
                "evidence": parts["fuse"],
                **parameters,
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"the file's metadata 'chain' break the format: {first_line(error)}; export it anew"
        ) from error
