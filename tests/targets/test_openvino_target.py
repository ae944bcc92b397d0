"""Recipes for OpenVINO: its own numbers in records and times, a file that onnxruntime takes too, and refusals."""

import multiprocessing
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import onnx
import pytest
import sentences
import tiny
import torch

from dynamic_exit import (
    DynamicExitModelForImageClassification as Model,
)
from dynamic_exit import (
    DynamicExitModelForSequenceClassification as Texts,
)
from dynamic_exit import (
    load_runner,
)
from dynamic_exit.analysis import benchmark_folder
from dynamic_exit.errors import ExportError, InputError, RecipeError
from dynamic_exit.onnx.session import open_session
from dynamic_exit.pipeline.run import run
from dynamic_exit.points.operating_point import point_thresholds
from dynamic_exit.recipe import read_recipe
from dynamic_exit.recipe.target_registry import TARGETS
from dynamic_exit.records import Records


def test_without_openvino_a_recipe_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RecipeError, match="'export' holds `target: openvino`, .* not installed; install the extra"):
        read_recipe(tiny.build(tmp_path, export__target="openvino"))
    with pytest.raises(ExportError, match="^a folder for openvino needs openvino, which is not installed; install"):
        TARGETS.find("openvino").open_model(onnx.ModelProto(), None)


class TestWithOpenVino:
    """All that runs it."""

    @pytest.fixture(scope="class", autouse=True)
    def openvino(self):
        return pytest.importorskip("openvino", reason="needs the extra `openvino`")

    @pytest.fixture(scope="class")
    def ran(self, openvino, tmp_path_factory):
        """Savers and exits in int8."""
        return run(read_recipe(tiny.build(tmp_path_factory.mktemp("openvino"), export__target="openvino")))

    @pytest.fixture(scope="class")
    def inputs(self):
        return tiny.samples("test")[0]

    def test_records_and_file_hold_the_numbers_of_openvino(self, ran, inputs):
        """By hand: the stages' confidences in the records decide exits as the file does."""
        found = Records.read(ran.folder / "records.npz")
        given, _ = tiny.samples("calibration")
        runner = load_runner(ran.folder, "backbone")
        answers = runner(given)
        np.testing.assert_array_equal(answers.logits.argmax(1), found.topk_classes[-1][:, 0])
        assert ran.metrics.timing.runtime == TARGETS.find("openvino").runtime()
        assert not ran.metrics.verification["shipped"].exits_apart
        assert len(set(load_runner(ran.folder)(inputs).exit_index)) > 1

    def test_onnxruntime_takes_the_file_too(self, openvino, inputs, tmp_path):
        """In float, where both round alike; with a sequence network, whose taps run in branches of branches."""
        changes = {"early_exit": {"count": 2, "training": {"epochs": 15}, "sequence": {"width": 16}}}
        named = {f"dynamic_exit__{key}": value for key, value in changes.items()}
        named["export__layout"] = "single"
        path = tiny.build(tmp_path, export__target="openvino", quantization=None, **named)
        result = run(read_recipe(path))
        runner, session = load_runner(result.folder), open_session(str(result.folder / "model.onnx"), threads=1)
        for rows in (1, 7, len(inputs)):
            for point in (*result.points.points, result.points.backbone):
                given = point_thresholds(point, runner.stages)
                ours = runner(inputs[:rows], thresholds=given)
                feeds = {runner.input_names[0]: inputs[:rows], "thresholds": given}
                theirs = session.run(["logits", "exit_index", "confidence"], feeds)
                np.testing.assert_array_equal(ours.exit_index, theirs[1])
                np.testing.assert_allclose(ours.logits, theirs[0], atol=1e-4)
        assert runner(inputs[:0]).logits.shape == (0, 3)

    def test_one_file_for_all_answers_as_one_a_stage(self, openvino, inputs, tmp_path):
        layouts = ("single", "segments")
        paths = [
            tiny.build(tmp_path / name, export__target="openvino", export__layout=name, quantization=None)
            for name in layouts
        ]
        single, model = (Model.from_pretrained(run(read_recipe(path)).folder) for path in paths)
        for point in (*model.operating_points.names, "backbone"):
            ours, theirs = (each(inputs) for each in self.at(point, model, single))
            np.testing.assert_array_equal(ours.exit_index, theirs.exit_index)
            np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)
        assert model.providers == single.providers == [] and model.session is single.session is None

    def test_8_bits_inside_branches_are_refused(self, openvino, tmp_path):
        path = tiny.build(tmp_path, export__target="openvino", export__layout="single")
        with pytest.raises(ExportError, match="answers wrongly in 8 bits inside the `If`s of `export.layout: single`"):
            run(read_recipe(path))

    @staticmethod
    def at(point, *models):
        for model in models:
            model.set_operating_point(point)
        return models

    def test_texts_of_any_length_get_the_answers_of_torch(self, openvino, tmp_path):
        path = sentences.build(tmp_path, export__target="openvino", quantization=None, dynamic_exit__early_exit=None)
        model = Texts.from_pretrained(run(read_recipe(path)).folder, operating_point="backbone", device="CPU")
        texts = {name: sentences.arrays("dev")[0][name] for name in model.input_names}
        for rows, length in ((1, 5), (7, 14), (64, 9)):
            cut = {name: array[:rows, :length] for name, array in texts.items()}
            with torch.no_grad():
                expected = sentences.backbone()(**{name: torch.from_numpy(array) for name, array in cut.items()}).logits
            # evidence is fused: the logarithm of probabilities
            np.testing.assert_allclose(model(**cut).logits, torch.log_softmax(expected, 1).numpy(), atol=1e-3)

    def test_the_benchmark_has_rows_for_both_runtimes(self, ran):
        found = benchmark_folder(ran.folder, *tiny.samples("test"), batch_sizes=[64], time_limit=0.1)
        assert found["runtime"] == " and ".join(TARGETS.find(name).runtime() for name in ("openvino", "onnxruntime"))
        numerics = [row["numerics"] for row in found["rows"] if row["name"] == "backbone"]
        wanted = ["float, openvino", "int8, openvino", "float, onnxruntime", "int8, onnxruntime"]
        assert numerics == wanted
        assert all(row["seconds_per_sample"]["64"]["median"] > 0 for row in found["rows"])

    def test_any_thread_process_and_fork_answers(self, ran, inputs):
        runner = load_runner(ran.folder)
        expected = runner(inputs)
        with ThreadPoolExecutor(4) as pool:
            for answers in pool.map(runner, [inputs] * 16):
                np.testing.assert_array_equal(answers.logits, expected.logits)
        copied = pickle.loads(pickle.dumps(runner))
        np.testing.assert_array_equal(copied(inputs).logits, expected.logits)
        context = multiprocessing.get_context("fork")
        with context.Pool(1) as forks:
            answers = forks.apply_async(partial(_logits, runner, inputs)).get(60)
        np.testing.assert_array_equal(answers, expected.logits)

    @pytest.mark.parametrize(
        "options, error, message",
        [
            ({"device": "XPU"}, InputError, r"^OpenVINO has no device 'XPU' on this machine; it has CPU"),
            ({"device": "GPU.7"}, InputError, r"^OpenVINO has no device 'GPU.7' on this machine; it has CPU"),
            (
                {"provider": "CPUExecutionProvider"},
                ExportError,
                "is for openvino, provider= and session_options= are",
            ),
        ],
    )
    def test_refuses_options(self, ran, options, error, message):
        for load in (load_runner, Model.from_pretrained):
            with pytest.raises(error, match=message):
                load(ran.folder, **options)

    @pytest.mark.parametrize("content", [b"no model", b""])
    def test_what_openvino_refuses_is_one_sentence(self, openvino, content):
        from dynamic_exit.targets.kinds.openvino import OpenVinoSession

        with pytest.raises(ExportError, match="^OpenVINO refuses the model: Unable to read the model[^\n]*$"):
            OpenVinoSession(content)

    @pytest.mark.parametrize(
        "export, message",
        [
            ({"format": "pt2"}, "'export' holds `format: pt2`, but `target: openvino` has onnx; leave `format` out"),
            (
                {"compile": True},
                "'export' holds `compile`, which is for `target: torch`, not for `target: openvino`",
            ),
        ],
    )
    def test_refuses_a_recipe(self, openvino, tmp_path, export, message):
        named = {f"export__{key}": value for key, value in export.items()}
        with pytest.raises(RecipeError, match=message):
            read_recipe(tiny.build(tmp_path, export__target="openvino", **named))


def _logits(runner, inputs):
    return runner(inputs).logits
