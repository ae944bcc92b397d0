"""The manifest of a written folder (`config.json`), read without transformers: what the folder's own classes go by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from typing_extensions import TypedDict

from ..chain.evidence import Evidence
from ..chain.spec import ChainSpec
from ..errors import ExportError, MissingFileError, first_line
from ..recipe.target_registry import DEFAULT_TARGET, TARGETS
from ..trust.json_file import read_json
from .version1 import upgrade

CONFIG_FILE = "config.json"
MODEL_TYPE = "dynamic_exit"
#: Version of the folder format: written by this program, and the newest that it reads.
VERSION = 2
IMAGES, TEXT = "image-classification", "text-classification"
LAYOUTS = ("segments", "single")


class InputSpec(TypedDict):
    """An input of a model.

    Attributes:
        name: Its name.
        dtype: NumPy's name of its dtype.
        shape: Its shape without the batch; a free dimension is its name.
    """

    name: str
    dtype: str
    shape: list[int | str]


def _write_numbers(values: Sequence[float]) -> list[str]:
    return [*map(str, values)]  # JSON has no infinity


def _class_names(names: Any) -> Any:
    """Return class names in the order of the logits."""
    return [names[key] for key in sorted(names, key=int)] if isinstance(names, Mapping) else names


class Manifest(BaseModel):
    """What a folder's configuration says of its model; keys of transformers are left out.

    It is the only source of what our own classes know of a folder. What an ONNX file says of itself is written from it.

    Attributes:
        version: Of the folder format.
        task: ``image-classification`` or ``text-classification``.
        inputs: The model's inputs.
        chain: The parts of the model; None for a single file of version 1, which says it itself.
        stages: Names of the stages before the final one, in the order of thresholds.
        last_stage: The stage that answers as the final one in a file without the backbone's own head; else None.
        default: Name of the initial operating point; None if there are none, or as for `chain`.
        thresholds: Of a model that was saved from memory, one per stage; None where operating points hold them.
        layout: ``single`` (one ONNX file) or ``segments`` (one file per part).
        target: Name of the export target.
        compile: Whether its parts are compiled when they are loaded.
        files: Role of a part, or ``model`` for a single file -> its file.
        checksums: File -> ``sha256:`` and the digest, of the files with weights.
        numerics: Numerics of the backbone, such as ``float`` or ``int8``; None if unknown.
        float_twin: What is known of the dequantized files; None if nothing is.
        labels: Class names in the order of the logits.
        max_tokens: Maximum number of tokens that the model takes; None if unlimited or unknown.
        tokenizer_files: Names of the tokenizer's files.
        preprocessing: Stage -> its preprocessing; for information only, it is part of the graph.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    version: int = Field(VERSION, alias="_version")
    task: str
    inputs: tuple[InputSpec, ...]
    chain: ChainSpec | None
    stages: tuple[str, ...]
    last_stage: str | None = None
    default: str | None = None
    thresholds: Annotated[tuple[float, ...] | None, PlainSerializer(_write_numbers, when_used="json-unless-none")] = (
        None
    )
    layout: str
    target: str
    compile: bool = False
    files: dict[str, str] = {}
    checksums: dict[str, str] = {}
    numerics: str | None = None
    float_twin: dict[str, Any] | None = None
    labels: Annotated[tuple[str, ...], BeforeValidator(_class_names)] = Field((), alias="id2label")
    max_tokens: int | None = None
    tokenizer_files: tuple[str, ...] = ()
    preprocessing: dict[str, dict[str, Any]] = {}

    @property
    def has_onnx_parts(self) -> bool:
        """Whether its files are ONNX models, one per part."""
        return self.layout == "segments" and all(file.endswith(".onnx") for file in self.files.values())

    @property
    def evidence(self) -> Evidence | None:
        """How answers are combined; None where the chain is not known."""
        return None if self.chain is None else self.chain.fuse

    def metadata(self) -> dict[str, Any]:
        """Return what an ONNX file says of itself, for users without this package; `inspect` compares both."""
        return {"version": self.version, "stages": self.stages, "labels": self.labels, "default": self.default}

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file, without keys of transformers."""
        derived = {"stages"} if self.thresholds is not None else {"stages", "thresholds"}
        return self.model_dump(mode="json", by_alias=True, exclude=derived)


def parse_manifest(values: Mapping[str, Any]) -> Manifest:
    """Return what the content of a configuration says.

    Args:
        values: Of this version or an older one.

    Raises:
        ExportError: A newer version, an unknown layout or target, or it breaks the format.
    """
    version = values.get("_version", 1)
    _check_shape(values)
    check_format(version, values.get("layout", "single"), values.get("target", DEFAULT_TARGET))
    values = upgrade(values) if version == 1 else values
    chain = values.get("chain")
    names = [stage.get("name") for stage in chain.get("stages") or ()] if isinstance(chain, Mapping) else []
    inputs = values.get("inputs") or ()
    try:
        return Manifest.model_validate({"stages": names, "task": infer_task(inputs), **values, "_version": version})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ExportError(f"{CONFIG_FILE} breaks the format at `{where}`: {first['msg']}; export it anew") from error


def _check_shape(values: Mapping[str, Any]) -> None:
    """Check what is looked into before the schema is.

    Raises:
        ExportError: A value is of another kind.
    """
    chain = values.get("chain") or {}
    lists = {
        "chain.stages": chain.get("stages") if isinstance(chain, Mapping) else None,
        "inputs": values.get("inputs"),
    }
    for where, each in lists.items():
        if each is not None and not (isinstance(each, list | tuple) and all(isinstance(one, Mapping) for one in each)):
            raise ExportError(
                f"{CONFIG_FILE} breaks the format at `{where}`: it must be a list of objects; export it anew"
            )
    for key in ("layout", "target"):
        if not isinstance(values.get(key, ""), str):
            raise ExportError(f"{CONFIG_FILE} breaks the format at `{key}`: it must be a name; export it anew")


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's configuration.

    Raises:
        ExportError: It is missing, of another type of model, or as for `parse_manifest`.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise missing_file(folder, CONFIG_FILE)
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise ExportError(f"'{path}' cannot be read: {first_line(error)}; export it anew") from error
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != MODEL_TYPE:
        raise ExportError(f"'{folder}' holds a model of type '{kind}'; give one of type '{MODEL_TYPE}'")
    return parse_manifest(values)


def check_format(version: object, layout: str, target: str) -> None:
    """Check that this program can read a folder.

    Args:
        version: Version of the folder format.
        layout: As in `Manifest`.
        target: As in `Manifest`.

    Raises:
        ExportError: A newer version, an unknown layout or an unknown target.
    """
    if isinstance(version, int) and version > VERSION:
        raise ExportError(
            f"{CONFIG_FILE} is of version {version}, this program reads up to {VERSION}; use a newer dynamic_exit"
        )
    if layout not in LAYOUTS:
        raise ExportError(f"{CONFIG_FILE} names the layout '{layout}'; known are: {', '.join(LAYOUTS)}")
    if target not in TARGETS:
        raise ExportError(f"{CONFIG_FILE} names the target '{target}'; known are: {', '.join(TARGETS.names())}")


def infer_task(inputs: Sequence[InputSpec]) -> str:
    """Infer the task of a model from its inputs: text if it takes token indices, else images."""
    return TEXT if any(each.get("name") == "input_ids" for each in inputs) else IMAGES


def missing_file(folder: Path, name: str) -> MissingFileError:
    """Return the error for a missing file."""
    return MissingFileError(f"'{folder}' has no {name}; it is no complete dynamic model, export it anew")
