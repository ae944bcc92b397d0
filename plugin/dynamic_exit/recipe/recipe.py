"""The whole recipe; each stanza has a file of its own, those of passes beside their passes."""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from ..chain.evidence import AUTO, Evidence
from ..errors import RecipeError
from ..passes import AnyModelSource, EarlyExitStanza, ModelSource, PruningStanza, Stanza, TinySaverStanza
from ..passes.stanza import refuse
from .cache import CacheStanza
from .data import AnyDataSource
from .export import AnyExport
from .report import ReportStanza
from .static_choices import StaticChoice, list_choices
from .static_passes import StaticPasses
from .target_registry import TARGETS
from .tuning import PointGoal, Tuning
from .upgrade import Upgrade


class DynamicExit(Stanza):
    """The dynamic passes."""

    tiny_saver: TinySaverStanza | None = Field(None, description="independent small models that answer first")
    early_exit: EarlyExitStanza | None = Field(None, description="exit heads inside the backbone")
    tuning: Tuning = Field(Tuning(), description="thresholds and operating points")
    cache: CacheStanza = Field(CacheStanza(), description="finished work: exported parts, candidates")

    @property
    def evidence(self) -> Evidence:
        """How answers are combined; ``auto`` where samples decide, which they do behind savers alone."""
        wanted = self.tuning.fuse
        if wanted == AUTO:
            wanted = (self.tiny_saver.fuse or AUTO) if self.tiny_saver else "none"
        settled = self.tuning.confidence == AUTO and wanted in ("none", "mean")
        return Evidence(wanted, "top1" if settled else self.tuning.confidence)

    @property
    def plain_evidence(self) -> Evidence:
        """How answers are combined where no samples have decided yet."""
        wanted = self.evidence
        rule = "mean" if wanted.rule == AUTO else wanted.rule
        usual = "margin" if rule == "product" else "top1"
        return Evidence(rule, usual if wanted.confidence == AUTO else wanted.confidence)

    @model_validator(mode="after")
    def _check_passes(self) -> Self:
        if self.tiny_saver is None and self.early_exit is None:
            raise refuse("holds neither `tiny_saver` nor `early_exit`; add one of them")
        return self


class Recipe(StaticPasses):
    """A complete recipe; `with_passes` adds the stanzas of third-party passes."""

    seed: int = Field(0, ge=0, description="governs all randomness of a run")
    model: AnyModelSource = Field(description="the backbone")
    data: AnyDataSource = Field(description="samples in three disjoint splits")
    pruning: PruningStanza | None = Field(None, description="fewer channels")
    quantization: dict[str, dict[str, Any] | None] | None = Field(None, description="Neural Compressor's own stanza")
    dynamic_exit: DynamicExit = Field(description="the dynamic passes")
    upgrade: Upgrade | None = Field(None, description="larger backbones, for budgets that are over what `model` costs")
    export: AnyExport = Field(description="the folder that is written")
    report: ReportStanza = Field(ReportStanza(), description="the page that shows what was measured")

    @property
    def choices(self) -> list[StaticChoice]:
        """The choices of `tuning.static_search`; empty without one.

        Raises:
            RecipeError: A choice is unknown, invalid or repeated, or the costs of the choices cannot be compared.
        """
        tuning = self.dynamic_exit.tuning
        if tuning.static_search is None:
            return []
        choices = list_choices(tuning.static_search, self.pruning, self.quantization)
        quantizations = {choice.names[1] for choice in choices}
        if len(quantizations) > 1 and tuning.cost == "macs":
            raise RecipeError(
                "key 'dynamic_exit.tuning.static_search' compares quantizations; their multiply-adds differ, "
                "set dynamic_exit.tuning.cost to latency"
            )
        return choices

    @property
    def point_goals(self) -> list[PointGoal]:
        """The goals of all points that are written, with their names."""
        tuning = self.dynamic_exit.tuning
        if self.upgrade is None:
            return tuning.goals
        names = [point.name or point.point_name.replace("budget", "upgrade") for point in tuning.points]
        return [point.model_copy(update={"name": name}) for name, point in zip(names, tuning.points, strict=True)]

    def upgraded(self, backbone: ModelSource, budgets: Sequence[float] | None = None) -> Self:
        """Return the recipe of one of the backbones of `upgrade`, with the model of today among its savers.

        Args:
            backbone: The model that answers last.
            budgets: Of the points, over what that model costs; None leaves those that are over what today's does.
        """
        dynamic, tuning = self.dynamic_exit, self.dynamic_exit.tuning
        given = dynamic.tiny_saver.candidates if dynamic.tiny_saver else []
        saver = (dynamic.tiny_saver or TinySaverStanza()).model_copy(update={"candidates": [self.model, *given]})
        wanted: Sequence[float | None] = budgets or [goal.budget for goal in self.point_goals]
        points = [goal.model_copy(update={"budget": each}) for goal, each in zip(self.point_goals, wanted, strict=True)]
        names = [point.point_name for point in tuning.points]
        default = points[names.index(tuning.default_point) if tuning.default_point else 0].name
        tuning = tuning.model_copy(update={"points": points, "default_point": default})
        dynamic = dynamic.model_copy(update={"tiny_saver": saver, "tuning": tuning})
        return self.model_copy(update={"model": backbone, "dynamic_exit": dynamic, "upgrade": None})

    @model_validator(mode="after")
    def _check_search_target(self) -> Self:
        target = self.export.target
        if self.dynamic_exit.tuning.static_search is not None and not TARGETS.find(target).static_search:
            raise refuse(
                "the recipe holds `dynamic_exit.tuning.static_search`, which compares ONNX files, and "
                f"`target: {target}`; search for onnxruntime, then set the target in the recipe that was found"
            )
        return self

    @model_validator(mode="after")
    def _check_replacement(self) -> Self:
        saver = self.dynamic_exit.tiny_saver
        if saver and saver.replace_backbone and self.dynamic_exit.tuning.static_search is not None:
            raise refuse(
                "the recipe has both `tiny_saver.replace_backbone`, which drops the backbone, and "
                "`tuning.static_search`, which searches the best form of it; keep one"
            )
        return self

    @model_validator(mode="after")
    def _check_end_of_chain(self) -> Self:
        dynamic = self.dynamic_exit
        ends = {
            "tiny_saver.replace_backbone": dynamic.tiny_saver is not None and dynamic.tiny_saver.replace_backbone,
            "export.drop_unreached": self.export.drop_unreached,
        }
        for key, given in ends.items():
            if given and dynamic.tuning.judges_otherwise:
                raise refuse(
                    f"the recipe has both `{key}`, which goes by accuracy, and `tuning.risk` or "
                    "`tuning.max_class_drop`; keep one"
                )
        return self

    @model_validator(mode="after")
    def _check_upgrade(self) -> Self:
        if self.upgrade is None:
            return self
        dynamic, saver = self.dynamic_exit, self.dynamic_exit.tiny_saver
        if not dynamic.tuning.points or any(point.budget is None for point in dynamic.tuning.points):
            raise refuse(
                "the recipe has `upgrade`, whose points are budgets over what `model` costs today; give "
                "`dynamic_exit.tuning` budgets alone, such as `points: [{budget: 1.0}]`"
            )
        others = {
            "tuning.static_search": dynamic.tuning.static_search is not None,
            "tuning.risk` or `tuning.max_class_drop": dynamic.tuning.judges_otherwise,
            "tiny_saver.replace_backbone": saver is not None and saver.replace_backbone,
            "export.drop_unreached": self.export.drop_unreached,
            "pruning": self.pruning is not None,
        }
        for key, given in others.items():
            if given:
                raise refuse(f"the recipe has both `upgrade` and `{key}`; keep one")
        names = [self.model.stage_name, *(each.stage_name for each in self.upgrade.backbones)]
        names += [each.stage_name for each in saver.models] if saver else []
        for name in names:
            if names.count(name) > 1:
                raise refuse(
                    f"two of `model`, which is a saver of every backbone of `upgrade`, these backbones and the "
                    f"candidates are called '{name}'; name each model once, or give it its own `stage`"
                )
        return self

    @model_validator(mode="after")
    def _check_stage_names(self) -> Self:
        saver = self.dynamic_exit.tiny_saver
        named = [*(saver.models if saver else ()), *([self.model, *self.upgrade.backbones] if self.upgrade else ())]
        if "final" in [candidate.stage_name for candidate in named]:
            raise refuse("a candidate is called 'final', the backbone's own name; give it another `stage`")
        return self
