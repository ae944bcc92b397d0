"""The recipe: every stanza with its keys, defaults and ranges, and how a recipe file is read and written.

The stanzas of passes stand beside their passes; this file puts them together.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from ..chain.goal_limits import LARGEST_DROP, explain_excessive_budget, explain_excessive_drop
from ..chain.operating_point import BACKBONE, Goal
from ..errors import OutputError, RecipeError
from ..passes import EarlyExitStanza, ModelSource, PruningStanza, Stanza, TinySaverStanza, explain
from ..passes.quantization import int8_options, torch_options
from ..passes.stanza import PathOrName, RecipePath, refuse
from .static_choices import StaticChoice, StaticSearch, choices_of
from .static_passes import StaticPasses, in_written_order, with_passes

#: Added to the output's name while it is written.
PARTIAL = ".partial"


def _without_doubt(doubt: Callable[[float], str | None]) -> AfterValidator:
    def check(value: float) -> float:
        if doubt(value):
            raise refuse(doubt(value))
        return value

    return AfterValidator(check)


#: An accuracy drop that a user may ask for, and a budget.
_Drop = Annotated[
    float, Field(ge=0, json_schema_extra={"maximum": LARGEST_DROP}), _without_doubt(explain_excessive_drop)
]
_Budget = Annotated[float, Field(gt=0, json_schema_extra={"maximum": 1}), _without_doubt(explain_excessive_budget)]


class Splits(Stanza):
    """What is trained on, what is tuned on, and what figures are reported from; always disjoint."""

    train: str = Field(description="exit heads and fine-tuning")
    calibration: str = Field(description="int8 ranges, choice of savers, thresholds")
    test: str = Field(description="every reported figure; nothing else sees it")


class Columns(Stanza):
    """Where text and label stand in a file: names of columns or keys, or numbers from 0 where no line names them."""

    text: str | int = Field("text", description="what is classified")
    pair: str | int | None = Field(None, description="a second text that belongs to the first")
    label: str | int = Field("label", description="the class: its number, or its name")

    @model_validator(mode="after")
    def _all_alike(self):
        given = [each for each in (self.text, self.pair, self.label) if each is not None]
        if len({type(each) for each in given}) > 1:
            raise refuse(f"must hold names alone or numbers alone; got {', '.join(map(repr, given))}")
        return self


class Text(Stanza):
    """How text files are read and tokenized."""

    tokenizer: PathOrName | None = Field(None, description="Hugging Face name or folder; null: the backbone's own")
    max_length: int | None = Field(None, ge=2, description="tokens of a text, cut beyond; null: the tokenizer's limit")
    padding: Literal["longest", "max_length"] = Field("longest", description="to how many tokens texts are filled up")
    columns: Columns = Field(Columns(), description="where text and label stand")

    @model_validator(mode="after")
    def _length_is_known(self):
        if self.padding == "max_length" and self.max_length is None:
            raise refuse("fills up to `max_length`, which it does not hold; add it")
        return self


class DataSource(Stanza):
    """Where samples come from.

    A split is a name and may end in a slice, such as ``dev[:50%]``: a share of the named samples in an order that the
    recipe's seed decides.
    """

    source: Literal["npz", "imagefolder", "text", "python"] = Field(description="kind of source")
    path: RecipePath = Field(description=".npz or text file, folder, or file.py:function")
    splits: Splits = Field(description="name of each split, with an optional slice")
    classes: list[str] | None = Field(None, description="names of the classes, in the order of the logits")
    layout: Literal["channels_first", "channels_last"] = Field("channels_first", description="of images in the source")
    duplicates: Literal["refuse", "drop"] = Field("refuse", description="drop: leave copies of test samples out")
    text: Text | None = Field(None, description="of `source: text`")

    @model_validator(mode="before")
    @classmethod
    def _text_has_defaults(cls, values):
        if isinstance(values, Mapping) and values.get("source") == "text" and values.get("text") is None:
            return {**values, "text": {}}
        return values

    @model_validator(mode="after")
    def _text_is_for_text(self):
        if self.source != "text" and self.text is not None:
            raise refuse(f"holds `text`, which is for `source: text`, not for `source: {self.source}`; remove it")
        return self


class PointGoal(Stanza):
    """What one operating point is tuned for: a largest accuracy drop or a budget."""

    name: str | None = Field(None, description="default: made from the goal")
    max_accuracy_drop: _Drop | None = Field(None, description="a share: 0.005 is half a point")
    budget: _Budget | None = Field(None, description="mean cost over the backbone's")

    @property
    def point_name(self) -> str:
        """Name of the point: the given one, or the one made from the goal."""
        return self.name or Goal(max_accuracy_drop=self.max_accuracy_drop, budget=self.budget).name

    @model_validator(mode="after")
    def _one_goal(self):
        if (self.max_accuracy_drop is None) == (self.budget is None):
            raise refuse("must hold either `max_accuracy_drop` or `budget`")
        return self


class Tuning(Stanza):
    """How thresholds are chosen, on the calibration split."""

    max_accuracy_drop: _Drop = Field(
        0.005, description="a share, 0.005 is half a point; of the point that is exported as the default"
    )
    guarantee: float | None = Field(None, gt=0.5, lt=1, description="probability with which the drop holds, or null")
    cost: Literal["macs", "latency"] = Field("macs", description="what is saved: multiply-adds or measured seconds")
    batch_size: int = Field(64, ge=1, description="samples in one call where seconds are measured")
    threads: int = Field(1, ge=1, description="threads within an operator where seconds are measured")
    points: list[PointGoal] = Field([], description="further operating points")
    static_search: StaticSearch | None = Field(None, description="static choices to search for the best stack")

    @property
    def goals(self) -> list[PointGoal]:
        """All goals, the default's included, each once."""
        # not checked again: a static search holds drops against another backbone, where they may be larger
        default = PointGoal.model_construct(max_accuracy_drop=self.max_accuracy_drop)
        known = any(point.max_accuracy_drop == self.max_accuracy_drop for point in self.points)
        return list(self.points) if known else [default, *self.points]

    @property
    def default_goal(self) -> int:
        """Index in `goals` of the point that is exported as the default."""
        return [goal.max_accuracy_drop for goal in self.goals].index(self.max_accuracy_drop)

    @model_validator(mode="after")
    def _no_promise_for_a_stack(self):
        if self.static_search is not None and self.guarantee is not None:
            raise refuse(
                "has both `guarantee`, a drop against the backbone that ships, and `static_search`, whose drops are "
                "against the given one; keep one"
            )
        return self

    @model_validator(mode="after")
    def _unique_points(self):
        goals = [(goal.max_accuracy_drop, goal.budget) for goal in self.goals]
        names = [goal.point_name for goal in self.goals]
        if len(set(goals)) < len(goals) or len(set(names)) < len(names):
            raise refuse("holds a point twice; give every point its own goal and name")
        if BACKBONE in names:
            raise refuse(f"calls a point '{BACKBONE}', which is the backbone alone; give it another name")
        return self


class CacheStanza(Stanza):
    """Where finished work on candidates is kept, so that another run finds it."""

    directory: RecipePath | None = Field(
        None, description="null: $DYNAMIC_EXIT_CACHE, else dynamic_exit in $XDG_CACHE_HOME or in ~/.cache"
    )
    enabled: bool = Field(True, description="false: nothing is kept")


class DynamicExit(Stanza):
    """The dynamic passes."""

    tiny_saver: TinySaverStanza | None = Field(None, description="independent small models that answer first")
    early_exit: EarlyExitStanza | None = Field(None, description="exit heads inside the backbone")
    tuning: Tuning = Field(Tuning(), description="thresholds and operating points")
    cache: CacheStanza = Field(CacheStanza(), description="finished work on candidates")

    @model_validator(mode="after")
    def _something_to_do(self):
        if self.tiny_saver is None and self.early_exit is None:
            raise refuse("holds neither `tiny_saver` nor `early_exit`; add one of them")
        return self


class Export(Stanza):
    """What is written, and where."""

    directory: RecipePath = Field(description="a folder that does not exist yet, or an empty one")
    target: Literal["onnxruntime", "torch"] = Field("onnxruntime", description="what runs the model")
    format: Literal["onnx", "pt2"] = Field("onnx", description="onnx for onnxruntime; pt2, torch.export's, for torch")
    layout: Literal["single", "segments"] = Field(
        "single",
        description="single: one ONNX file; segments: one a stage, for runtimes that are slow at `If` and for torch",
    )
    compile: bool = Field(False, description="for torch: stages are compiled with inductor here and when loaded")

    @model_validator(mode="before")
    @classmethod
    def _torch_has_defaults(cls, values):
        if isinstance(values, Mapping) and values.get("target") == "torch":
            return {"format": "pt2", "layout": "segments", **values}
        return values

    @model_validator(mode="after")
    def _one_target(self):
        onnx = self.target == "onnxruntime"
        if onnx != (self.format == "onnx"):
            held = f"holds `format: {self.format}`, but `target: {self.target}` has {'onnx' if onnx else 'pt2'}"
            raise refuse(f"{held}; leave `format` out")
        if not onnx and self.layout == "single":
            raise refuse("holds `layout: single`, but `target: torch` has one file a stage; leave `layout` out")
        if onnx and self.compile:
            raise refuse("holds `compile`, which is for `target: torch`, not for `target: onnxruntime`; remove it")
        return self


class Recipe(StaticPasses):
    """A whole recipe; `with_passes` adds the stanzas of passes of other distributions."""

    seed: int = Field(0, ge=0, description="governs all randomness of a run")
    model: ModelSource = Field(description="the backbone")
    data: DataSource = Field(description="samples in three disjoint splits")
    pruning: PruningStanza | None = Field(None, description="fewer channels")
    quantization: dict[str, dict[str, Any] | None] | None = Field(None, description="Neural Compressor's own stanza")
    dynamic_exit: DynamicExit = Field(description="the dynamic passes")
    export: Export = Field(description="the folder that is written")

    @property
    def choices(self) -> list[StaticChoice]:
        """The choices of `tuning.static_search`; none without one.

        Raises:
            RecipeError: One is unknown, wrong or there twice, or their costs cannot be compared.
        """
        tuning = self.dynamic_exit.tuning
        if tuning.static_search is None:
            return []
        choices = choices_of(tuning.static_search, self.pruning, self.quantization)
        ways = {choice.names[1] for choice in choices}
        if len(ways) > 1 and tuning.cost == "macs":
            raise RecipeError(
                "key 'dynamic_exit.tuning.static_search' compares quantizations; their multiply-adds differ, "
                "set dynamic_exit.tuning.cost to latency"
            )
        return choices

    @model_validator(mode="after")
    def _search_is_for_onnxruntime(self):
        if self.export.target == "torch" and self.dynamic_exit.tuning.static_search is not None:
            raise refuse("holds `dynamic_exit.tuning.static_search`, which compares ONNX files, and `target: torch`; "
                         "search for onnxruntime, then set the target in the recipe that was found")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _stages_are_unique(self):
        saver = self.dynamic_exit.tiny_saver
        if saver and "final" in [candidate.stage_name for candidate in saver.candidates]:
            raise refuse("a candidate is called 'final', the backbone's own name; give it another `stage`")
        return self


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key written twice, where the plain loader would forget the first."""

    def construct_mapping(self, node, deep=False):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = key.value, key.start_mark.line + 1
            if name in lines and key.tag != "tag:yaml.org,2002:merge":
                raise RecipeError(f"key '{name}' is written twice, in lines {lines[name]} and {line}; keep one")
            lines[name] = line
        return super().construct_mapping(node, deep)


def parse_recipe(values: Mapping[str, Any], base: Path) -> Recipe:
    """Validate a recipe.

    Args:
        values: The stanzas.
        base: Folder that paths are relative to.

    Returns:
        The recipe, with absolute paths.

    Raises:
        RecipeError: One sentence for the first thing that is wrong.
    """
    if not isinstance(values, Mapping) or not values:
        said = f"must be a mapping, not a {type(values).__name__}" if values else "is empty"
        raise RecipeError(f"the recipe {said}; it needs the stanzas model, data, dynamic_exit and export")
    try:
        recipe = with_passes(Recipe).model_validate(dict(values), context={"base": Path(base)})
    except ValidationError as error:
        raise RecipeError(explain(error)) from None
    if recipe.export.target == "torch":
        torch_options(recipe.quantization)
    else:
        int8_options(recipe.quantization)
    recipe.choices  # noqa: B018  refuses what cannot be chosen
    return recipe


def read_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe file.

    Args:
        path: YAML file; paths in it are relative to its folder.
        overrides: Dotted key -> value, put in before validation, such as ``{"dynamic_exit.tuning.cost": "latency"}``.

    Returns:
        The recipe, with absolute paths.

    Raises:
        RecipeError: The file is missing, no YAML, or refused.
    """
    values = read_stanzas(path)
    written = list(values) if isinstance(values, Mapping) else []
    for key, value in (overrides or {}).items() if values else ():
        _put(values, key, value)
    if "quantization" in written:  # a pass that was set from outside has no written place: it goes before
        behind = {key: values.pop(key) for key in written[written.index("quantization") :]}
        values.update(behind)
    return parse_recipe(values, Path(path).parent)


def read_stanzas(path: str | Path) -> Any:
    """Return what a recipe file holds, not validated.

    Raises:
        RecipeError: The file is missing, no YAML, or holds a key twice.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"recipe '{path}' does not exist; give the path of a YAML file")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506  a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"recipe '{path}' is no YAML: {reason}") from None


def _put(values: Any, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for step in parents:
        if isinstance(values, Mapping) and values.get(step) is None:
            values[step] = {}
        values = values[step] if isinstance(values, Mapping) else None
    if not isinstance(values, Mapping):
        raise RecipeError(f"key '{key}' does not lead into a stanza; use dotted names such as dynamic_exit.tuning.cost")
    values[last] = value


def recipe_text(recipe: Recipe, folder: Path) -> str:
    """Return the resolved recipe as YAML, every default written out and paths relative to `folder`."""
    values = in_written_order(recipe, recipe.model_dump(mode="json", context={"base": str(Path(folder).absolute())}))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def check_output(directory: str | Path) -> Path:
    """Refuse an output folder in which something could be lost.

    Args:
        directory: Where a run would write.

    Returns:
        The folder's path.

    Raises:
        OutputError: It is a file, lies below one, or is a folder that is not empty.
    """
    directory = Path(directory)
    for place in (directory, directory.with_name(directory.name + PARTIAL), *directory.parents):
        if place.exists() and not place.is_dir():
            raise OutputError(f"output '{place}' is a file; choose a folder that does not exist yet")
    if directory.is_dir() and any(directory.iterdir()):
        raise OutputError(f"output folder '{directory}' is not empty; choose another one or empty it")
    return directory
