"""The registry of export targets, by the name that a recipe's `export.target` gives."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..core.registry import Registry, find_built_in
from ..errors import ExportError, RecipeError

if TYPE_CHECKING:
    from .export import Export


class TargetKind(ABC):
    """A runtime that models are exported for: its keys in recipes, and how its folders are made and opened.

    What it hands to `create` and takes from `open` are classes of higher rooms.

    Attributes:
        stanza: `Export`, or a subclass with further keys and checks of its own.
        tag: Of model cards on the hub.
        loading: Names of the options that `open` takes besides the folder, as ``provider``.
        static_search: Whether static choices can be compared for it, which are measured as ONNX files.
        compared_with: Names of other targets whose runtimes take its files; the benchmark has rows for each.
    """

    stanza: "ClassVar[type[Export]]"
    tag: ClassVar[str]
    loading: ClassVar[frozenset[str]] = frozenset()
    static_search: ClassVar[bool] = False
    compared_with: ClassVar[tuple[str, ...]] = ()

    def check_quantization(self, stanza: Mapping[str, Any] | None) -> None:
        """Refuse a recipe's `quantization` that cannot be had; by default any.

        Raises:
            RecipeError: One sentence on what cannot be had.
        """
        if stanza:
            raise RecipeError("key 'quantization' is for targets that quantize; this one does not, leave it out")

    @abstractmethod
    def create(self, run_inputs: Any, backbone: Any) -> Any:
        """Return the `targets.Target` for a run, and what was measured to choose its quantization.

        Args:
            run_inputs: A `sources.RunInputs`: the recipe and the samples.
            backbone: A `graph.Backbone`, cut.
        """

    @abstractmethod
    def open(self, folder: Path, manifest: Any, options: Mapping[str, Any]) -> Any:
        """Return the `artifact.file_runner.Runner` of a written folder, whose files are there and intact.

        Args:
            folder: The folder.
            manifest: Its `artifact.Manifest`.
            options: Those of `loading` that the caller gave.
        """

    def open_model(self, model: Any, threads: int | None) -> Any:
        """Return what runs an ONNX model on the CPU, as a `targets.base.Session`; by default onnxruntime does.

        Args:
            model: An `onnx.ModelProto`.
            threads: Within an operator; None leaves it to the runtime.
        """
        from ..onnx.session import open_session

        return open_session(model, threads)

    @abstractmethod
    def runtime(self) -> str:
        """Return name and version of what runs its models."""


def _check_kind(name: str, kind: object) -> None:
    if not isinstance(kind, TargetKind):
        raise ExportError(f"export target '{name}' must be an instance of a TargetKind; got {kind!r}")


#: The target of recipes that name none, and of folders without a manifest.
DEFAULT_TARGET = "onnxruntime"
#: The kinds by name; the name of an entry point is the name of its kind.
TARGETS: Registry[TargetKind] = Registry(
    "export target",
    ExportError,
    "dynamic_exit.targets",
    built_in=find_built_in("targets/kinds", first=(DEFAULT_TARGET,)),
    check=_check_kind,
)
