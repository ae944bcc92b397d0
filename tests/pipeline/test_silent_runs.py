"""Runs that would otherwise end well without a word: broken promises, interrupts, two at once, proofs that fail."""

import json
import os
import re
import signal
import socket

import commands
import numpy as np
import pytest
import tiny
import torch
from torch import nn

from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import OutputError, VerificationError
from dynamic_exit.guarantee.drop_checks import check_drops
from dynamic_exit.onnx.verification import LOGIT_TOLERANCE, assert_equivalent, compare
from dynamic_exit.output.lock import OutputLock
from dynamic_exit.points.goal import Goal
from dynamic_exit.points.operating_point import Baseline, OperatingPoint, OperatingPoints
from dynamic_exit.records import Records, StageTable
from dynamic_exit.records.splits import split
from dynamic_exit.runtime.model import DynamicExitModel
from dynamic_exit.targets.torch import TorchSession


class Given(nn.Module):
    """Answers with rows of its own, in the order of the row numbers that it is given."""

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.tensor(rows, dtype=torch.float32)

    def forward(self, x):
        return self.rows[x[:, 0].long()]


def agreement(ours, theirs, threshold, step=0.0):
    """Hold a chain whose saver and final answer `theirs` against one where both answer `ours`."""

    def model(rows):
        return DynamicExitModel([Given(rows)], input_names=["x"], savers={"saver": Given(rows)})

    file = model(theirs)

    def answer(feeds, thresholds):
        file.set_thresholds(thresholds)
        return [value.numpy() for value in file(torch.from_numpy(feeds["x"]))]

    x = np.arange(len(ours), dtype=np.float32)[:, None]
    session = TorchSession(answer, [{"name": "x", "shape": [1]}])
    return compare(model(ours), session, {"x": x}, [np.float32([threshold])], step=step)


LEAVES = 0.0
NAN, INF = float("nan"), float("inf")
#: Confidence of logits (a + 1, a).
SURE = float(1 / (1 + np.exp(-1)))
#: What a model answers, what its file does, the threshold, and what is said of it.
PROOFS = {
    "logits of 300 apart by 0.00014": ([[300.0, 1.0]], [[300.00014, 1.0]], LEAVES, ""),
    "logits of 3,000 apart by 0.01": ([[3000.0, 1.0]], [[3000.01, 1.0]], LEAVES, ""),
    "the large logit is a negative one": ([[1.0, -300.0]], [[1.0, -300.0002]], LEAVES, ""),
    "logits of 1 apart by 0.00014": ([[1.0, 0.0]], [[1.00014, 0.0]], LEAVES, "logits by 0.00014 of their size"),
    "logits of 300 apart by 0.06": ([[300.0, 1.0]], [[300.06, 1.0]], LEAVES, "logits by 0.0002 of their size"),
    "each sample by its own size": (
        [[300.0, 1.0], [1.0, 0.0]], [[300.0, 1.0], [1.0002, 0.0]], LEAVES, "logits by 0.0002 of their size",
    ),
    "a tie of logits of 1 falls on the other": ([[1.0, 1.00005]], [[1.00005, 1.0]], LEAVES, ""),
    "a tie of logits of 300 falls on the other": ([[300.0, 300.002]], [[300.002, 300.0]], LEAVES, ""),
    "no tie: logits of 300 by 0.01": ([[300.0, 300.01]], [[300.01, 300.0]], LEAVES, "1 predictions"),
    "no tie: logits of 1 by 0.01": (
        [[1.0, 1.01]], [[1.01, 1.0]], LEAVES, "1 predictions and logits by 0.0099 of their size",
    ),
    "at a threshold": ([[1.0, 0.0]], [[1.0, 0.0004]], SURE - 4e-5, ""),
    "at a threshold, logits of 300": ([[301.0, 300.0]], [[301.0, 300.005]], SURE - 5e-4, ""),
    "off a threshold": ([[1.0, 0.0]], [[1.0, 0.01]], SURE - 1e-3, "1 exits"),
    "off a threshold, logits of 300": ([[301.0, 300.0]], [[301.0, 300.02]], SURE - 3e-3, "1 exits"),
    "no number in the file alone": ([[1.0, 0.0]], [[1.0, NAN]], INF, "1 predictions and logits by nan of their size"),
    "no number in both": ([[1.0, NAN]], [[1.0, NAN]], INF, ""),
    "minus infinity in both": ([[1.0, -INF]], [[1.0, -INF]], LEAVES, ""),
    "minus infinity in the file alone": ([[1.0, -50.0]], [[1.0, -INF]], LEAVES, "logits by inf of their size"),
}  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs", "threshold", "said"), PROOFS.values(), ids=PROOFS)
def test_a_file_is_proved_by_its_exits_its_predictions_and_the_size_of_its_logits(ours, theirs, threshold, said):
    found = agreement(ours, theirs, threshold)
    if not said:
        assert_equivalent(found, "they", LOGIT_TOLERANCE)
        return
    with pytest.raises(VerificationError) as error:
        assert_equivalent(found, "they", LOGIT_TOLERANCE)
    rows = len(ours)
    assert str(error.value) == (
        f"they differ in {said} on {rows} samples at 1 operating points; please report this model"
    )


def test_an_8_bit_step_counts_in_units_of_the_logits_too():
    ours, theirs = [[300.0, 297.0]], [[298.0, 299.0]]
    apart = [agreement(ours, theirs, LEAVES, step).predictions_apart for step in (0.0, 0.001, 0.006)]
    assert apart == [1, 1, 0]


def paired(lost, gained, samples, unlabelled=0):
    """Records of a saver that answers everything: the final alone is right on some, the saver alone on others."""
    rows = np.arange(samples + unlabelled)
    saver = np.where(rows < lost, 1, 0)
    final = np.where((rows >= lost) & (rows < lost + gained), 1, 0)
    labels = np.where(rows < samples, 0, -1)
    logits = [5.0 * np.eye(2)[answers] for answers in (saver, final)]
    return Records.from_logits(
        labels, StageTable.of(["saver", "final"], ["saver", "final"], [-1, 0], [0.1, 0], [0, 1]), logits
    )


def judged(records, goal):
    point = OperatingPoint.measure(records, Configuration((("saver", 0.5),)), name="point", goal=goal)
    points = OperatingPoints(cost_unit="macs", baseline=Baseline(accuracy=1.0, cost=1.0), points=(point,))
    return check_drops(points, records)[0]


#: Samples lost, gained and all; the allowed drop; drop and standard error in points; whether that is a contradiction.
PROMISES = {
    "12 points of 610 samples": (paired(75, 2, 610), 0.01, 11.97, 1.35, True),
    "pairs see what single accuracies do not": (paired(30, 10, 1000), 0.005, 2.0, 0.63, True),
    "as many lost as gained": (paired(30, 30, 100), 0.0, 0.0, 7.75, False),
    "more gained than lost": (paired(2, 9, 100), 0.0, -7.0, 3.24, False),
    "within two standard errors": (paired(9, 3, 400), 0.005, 1.5, 0.86, False),
    "one sample, lost": (paired(1, 0, 1), 0.0, 100.0, 0.0, False),
    "two lost of three": (paired(2, 0, 3), 0.01, 66.67, 27.22, False),
    "twenty lost of twenty, without any error": (paired(20, 0, 20), 0.01, 100.0, 0.0, True),
    "nothing differs": (paired(0, 0, 50), 0.0, 0.0, 0.0, False),
    "a gain was asked for, too few samples to tell": (paired(0, 0, 50), -0.01, 0.0, 0.0, False),
    "a gain was asked for and is not there": (paired(0, 0, 1000), -0.01, 0.0, 0.0, True),
    "labels unknown: other answers than the backbone's": (paired(12, 0, 0, unlabelled=400), 0.005, 3.0, 0.85, True),
    "some labels unknown": (paired(4, 4, 10, unlabelled=390), 0.005, 0.0, 0.71, False),
}


@pytest.mark.parametrize(("records", "allowed", "drop", "error", "contradicted"), PROMISES.values(), ids=PROMISES)
def test_samples_contradict_a_promise_by_two_standard_errors_of_the_paired_difference(
    records, allowed, drop, error, contradicted
):
    found = judged(records, Goal(max_accuracy_drop=allowed))
    assert (round(100 * found.accuracy_drop, 2), round(100 * found.drop_error, 2)) == (drop, error)
    assert found.exceeds_allowed_drop == contradicted


def test_a_budget_promises_no_accuracy():
    assert not judged(paired(75, 0, 100), Goal(budget=0.5)).exceeds_allowed_drop


def test_the_note_of_a_promise_that_its_test_contradicts():
    assert judged(paired(75, 2, 610), Goal(max_accuracy_drop=0.005)).warning == (
        "point: it loses 12.0 ± 1.4 points on the 610 test samples, more than two standard errors beyond the allowed "
        "0.5; calibration samples are too few, or unlike the test samples"
    )


@pytest.fixture(scope="module")
def unlike(tmp_path_factory):
    """Records whose saver is always right where the search looks, and wrong on every third sample elsewhere."""
    samples = 600
    searched, _, reported = split(samples, 0.5, False, 0)
    labels = np.random.default_rng(0).integers(3, size=samples)
    saver = labels.copy()
    saver[reported[::3]] += 1
    confidence = np.random.default_rng(1).uniform(2, 6, size=(samples, 1))
    logits = [confidence * np.eye(4)[saver], 7 * np.eye(4)[labels]]
    path = tmp_path_factory.mktemp("unlike") / "records.npz"
    Records.from_logits(
        labels, StageTable.of(["saver", "final"], ["saver", "final"], [-1, 0], [0.1, 0], [0, 1]), logits
    ).write(path)
    return path


BROKEN = (
    "dynamic-exit: accuracy-drop-1%: it loses 33.3 ± 2.7 points on the 300 test samples, more than two standard errors "
    "beyond the allowed 1; calibration samples are too few, or unlike the test samples\n"
)
MISSED = "dynamic-exit: what is required was missed: "
LOST = "more than the allowed drop lost on the test samples: accuracy-drop-1%"
UNASKED = "dynamic-exit: --require-guarantee: no guarantee is asked for; give its probability as "
#: Options of `tune`, its exit code, and what it says last.
TUNED = {
    "a note alone": ((), 0, BROKEN),
    "the drop is required": (("--require-drop",), 3, f"{BROKEN}{MISSED}{LOST}\n"),
    "the drop is required, JSON asked for": (("--require-drop", "--json"), 3, f"{BROKEN}{MISSED}{LOST}\n"),
    "a guarantee that no sample is there for": (
        ("--guarantee", 0.999999, "--search-fraction", 0.98, "--require-guarantee"),
        3, f"{MISSED}no guarantee: accuracy-drop-1%\n",
    ),
    "a guarantee that nobody asks for": (
        ("--require-guarantee",),
        2, f"{UNASKED}--guarantee, such as 0.95\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "code", "said"), TUNED.values(), ids=TUNED)
def test_tune_says_what_its_samples_contradict_and_loses_nothing(unlike, command, tmp_path, options, code, said):
    output = tmp_path / "points.json"
    found, out, err = command("tune", unlike, "--output", output, "--max-accuracy-drop", 0.01, *options)
    assert found == code and err.endswith(said), err
    assert output.exists() == (code != 2)
    if "--json" in options:
        assert json.loads(out) == json.loads(output.read_text())


def test_the_table_of_tune_holds_standard_errors(unlike, command, tmp_path):
    _, out, _ = command("tune", unlike, "--output", tmp_path / "points.json", "--max-accuracy-drop", 0.01)
    assert "66.67 ± 2.72 %  33.33 ± 2.72 %" in out


@pytest.fixture(scope="module")
def misled(tmp_path_factory):
    """The tiny world with test samples on which the backbone is right and its savers, which are sure, are wrong."""
    folder = tmp_path_factory.mktemp("misled")
    exits = {"dynamic_exit__early_exit": None, "quantization": None}
    tuning = {"max_accuracy_drop": 0.2, "guarantee": 0.95, "points": [{"max_accuracy_drop": 0.0}]}
    path = tiny.build(folder, dynamic_exit__tuning=tuning, **exits)
    inputs, _ = tiny.draw(6000, 17)
    with torch.no_grad():
        backbone = tiny.backbone()(torch.from_numpy(inputs)).argmax(1)
        savers = [torch.softmax(tiny.saver(width)(torch.from_numpy(inputs)), 1) for width in (2, 4)]
    wrong = torch.stack([saver.max(1).values * (saver.argmax(1) != backbone) for saver in savers]).amin(0)
    chosen = wrong.topk(tiny.SIZES["test"]).indices
    np.savez(folder / "data" / "test.npz", inputs=inputs[chosen], labels=backbone[chosen].numpy())
    return path


def test_a_run_whose_test_contradicts_it_says_so_everywhere_and_is_written(misled, command):
    code, out, err = command("run", misled, "--require-drop", "--require-guarantee")
    folder = misled.parent / "out"
    metrics = json.loads((folder / "metrics.json").read_text())
    base, point, strict = metrics["rows"]
    assert code == 3 and point["name"] == "accuracy-drop-20%" and point["contradicted"], err
    assert (point["allowed_drop"], strict["allowed_drop"]) == (0.2, 0.0)
    (note,) = (note for note in metrics["notes"] if note.startswith("accuracy-drop-20%: it loses "))
    texts = (out, (folder / "report.html").read_text(), (folder / "README.md").read_text())
    assert all(note in text for text in texts)
    last = err.splitlines()[-1]
    assert last.startswith(f"{MISSED}more than the allowed drop lost on the test samples: accuracy-drop-20%"), err
    # what is guaranteed is about other samples than these
    assert metrics["samples_differ"] and "at most 20 points" not in texts[1]
    assert all("calibration and test samples differ: at some confidence of stage" in text for text in texts)
    assert "a guarantee for other samples than the test samples: accuracy-drop-20%" in last
    # figures by hand: of every sample that only one of both has right
    samples, right = tiny.SIZES["test"], base["accuracy"]
    assert right == 1.0 and base["accuracy_standard_error"] == 0.0 and "accuracy_drop" not in base
    lost = round(point["accuracy_drop"] * samples)
    assert point["accuracy"] == 1 - lost / samples
    spread = (lost / samples * (1 - lost / samples) / samples) ** 0.5
    assert point["accuracy_standard_error"] == pytest.approx(spread)
    assert point["accuracy_drop_standard_error"] == pytest.approx(spread)
    assert all(f"{100 * point['accuracy']:.1f} ± {100 * spread:.1f} %" in text for text in texts)


def test_a_run_refuses_to_require_a_guarantee_that_its_recipe_does_not_ask_for(misled, command, tmp_path):
    options = ("--require-guarantee", "--set", "dynamic_exit.tuning.guarantee=null", "--output", tmp_path / "out")
    assert command("run", misled, *options) == (
        2,
        "",
        f"{UNASKED}dynamic_exit.tuning.guarantee, such as 0.95\n",
    )
    assert not list(tmp_path.iterdir())


#: Reads no data, but says that it began to and waits.
SLEEPER = """
import sys, time

def load(split):
    print("loading", file=sys.stderr, flush=True)
    time.sleep(900)
"""


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """Recipes whose data never come, and whose training never ends."""
    folder = tmp_path_factory.mktemp("endless")
    exits = {"count": 1, "training": {"epochs": 1000000, "validation": 0}}
    path = tiny.build(folder, dynamic_exit__tiny_saver=None, quantization=None, dynamic_exit__early_exit=exits)
    (folder / "data.py").write_text(SLEEPER)
    data = {"source": "python", "path": "data.py:load", "splits": {key: key for key in tiny.SIZES}}
    tiny.write(folder, tiny.recipe(data=data), "waits.yaml")
    return path


def kept(folder):
    """The line of a run that was interrupted while it trained into `folder`/out."""
    return (
        f"dynamic-exit: interrupted; '{folder}/out.partial' keeps what is done: run the same command with --resume to "
        "go on from there"
    )


def nothing(folder):
    return (
        f"dynamic-exit: interrupted; nothing is in '{folder}/out' yet: run the same command again, with or without "
        "--resume"
    )


def test_a_training_that_is_interrupted_ends_in_order_and_goes_on(endless, tmp_path):
    """By Ctrl-C in a process of its own, then by SIGTERM once it has gone on."""
    checkpoint = tmp_path / "out.partial" / "work" / "exits.safetensors"
    first = commands.begun(tmp_path / "first", "run", endless, "--output", tmp_path / "out")
    first.until(checkpoint.exists)
    assert first.signalled(signal.SIGINT) == 130
    lines = first.said.splitlines()
    assert lines[-1] == kept(tmp_path) and first.said.count("interrupted") == 1
    assert "Traceback" not in first.said and "ignored" not in first.said
    # not a copy of this process: autograd does not survive a fork once it has worked
    second = commands.begun(tmp_path / "second", "run", endless, "--output", tmp_path / "out", "--resume")
    second.until(lambda: "exits: training continues after epoch" in second.said)
    assert second.signalled(signal.SIGTERM) == 143
    assert second.said.splitlines()[-1] == kept(tmp_path) and "Traceback" not in second.said
    # nothing but what the training keeps and the log, no lock and no file that was cut short
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    work = {f"out.partial/work/{name}" for name in ("features.f16", "features.json", "exits.safetensors")}
    assert left == {"first", "second", "out.partial/run.log", *work}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_is_interrupted_while_it_is_imported(tmp_path, number):
    begun = commands.begun(tmp_path / "log", "passes", python=("-X", "importtime"))
    begun.until(lambda: re.search("dynamic_exit.core.signals$", begun.said, re.M) is not None)
    at = len(begun.said)
    begun.until(lambda: len(begun.said) > at)
    assert begun.signalled(number) == 128 + number
    others = [line for line in begun.said.splitlines() if not line.startswith("import time:")]
    assert others == ["dynamic-exit: interrupted"]


#: Commands that wait for their data, and what they say when they are interrupted.
WAITING = {
    "run, before anything is kept": (("run", "waits.yaml", "--output", "out"), nothing),
    "run, JSON asked for": (("run", "waits.yaml", "--output", "out", "--json"), nothing),
    "validate": (("validate", "waits.yaml"), lambda folder: "dynamic-exit: interrupted"),
    "plan": (("plan", "waits.yaml"), lambda folder: "dynamic-exit: interrupted"),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("arguments", "line"), WAITING.values(), ids=WAITING)
def test_a_command_that_waits_is_interrupted(endless, tmp_path, arguments, line, number):
    place = {"waits.yaml": endless.parent / "waits.yaml", "out": tmp_path / "out"}
    waiting = commands.forked(tmp_path / "log", *(place.get(each, each) for each in arguments))
    waiting.until(lambda: "loading" in waiting.said)
    assert waiting.signalled(number) == 128 + number
    assert waiting.said.splitlines() == ["loading", line(tmp_path)]
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_an_interrupt_in_this_process_leaves_its_signals_as_they_were(endless, command, monkeypatch):
    from dynamic_exit.pipeline import inputs

    def interrupted(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(inputs, "load_run_inputs", interrupted)
    assert command("validate", endless) == (143, "", "dynamic-exit: interrupted\n")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_second_run_into_an_output_is_refused_before_any_work_by_name_of_the_first(endless, command, tmp_path):
    recipe, output = endless.parent / "waits.yaml", tmp_path / "deep" / "out"
    first = commands.forked(tmp_path / "log", "run", recipe, "--output", output)
    first.until(lambda: "loading" in first.said)
    since = json.loads((output.parent / ".out.lock").read_text())["since"]
    # by another way to the same place
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    for place in (output, tmp_path / "link" / "out"):
        assert command("run", recipe, "--output", place) == (
            2,
            "",
            f"dynamic-exit: output '{place}' is being written by process {first.pid} on {socket.gethostname()} since "
            f"{since}; wait for it, or choose another folder\n",
        )
    assert first.signalled(signal.SIGTERM) == 143
    assert {path.name for path in tmp_path.iterdir()} == {"log", "link"}


def test_the_lock_of_a_run_that_was_killed_means_nothing(endless, tmp_path):
    first = commands.forked(tmp_path / "log", "run", endless.parent / "waits.yaml", "--output", tmp_path / "out")
    first.until(lambda: "loading" in first.said)
    assert first.signalled(signal.SIGKILL) == -9
    assert (tmp_path / ".out.lock").exists()
    lock = OutputLock(tmp_path / "out")
    assert json.loads((tmp_path / ".out.lock").read_text())["process"] == os.getpid()
    lock.release()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_folders_above_an_output_are_made_for_the_lock_and_go_with_it_unless_something_came_into_them(tmp_path):
    lock = OutputLock(tmp_path / "a" / "b" / "out")
    assert (tmp_path / "a" / "b" / ".out.lock").exists()
    other = OutputLock(tmp_path / "a" / "out")
    lock.release()
    assert [path.name for path in (tmp_path / "a").iterdir()] == [".out.lock"]
    other.release()
    other.release()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_lock_that_somebody_removed_is_not_taken_from_the_next(tmp_path):
    first = OutputLock(tmp_path / "out")
    (tmp_path / ".out.lock").unlink()
    second = OutputLock(tmp_path / "out")
    first.release()
    with pytest.raises(OutputError, match=f"'{tmp_path}/out' is being written by process {os.getpid()} on "):
        OutputLock(tmp_path / "out")
    second.release()
    assert not list(tmp_path.iterdir())


def test_a_lock_that_does_not_say_whose_it_is_is_respected(tmp_path, monkeypatch):
    from dynamic_exit.output import lock as output_lock

    monkeypatch.setattr(output_lock, "_SECONDS_BETWEEN", 0.001)
    lock = OutputLock(tmp_path / "out")
    (tmp_path / ".out.lock").write_text("?")
    with pytest.raises(OutputError) as error:
        OutputLock(tmp_path / "out")
    assert str(error.value) == (
        f"output '{tmp_path}/out' is being written by another run, which holds '{tmp_path}/.out.lock'; wait for it, or "
        "choose another folder"
    )
    lock.release()


@pytest.mark.parametrize("place", ["/proc/nowhere/out", "/proc/out", f"/tmp/{'long' * 64}/out"])
def test_an_output_that_cannot_be_made_is_refused_before_any_work(endless, command, place):
    code, out, err = command("run", endless.parent / "waits.yaml", "--output", place)
    assert (code, out) == (2, "") and "loading" not in err
    assert re.fullmatch(f"dynamic-exit: output '{place}' cannot be made: [A-Z][a-z ]+; choose another place\n", err), (
        err
    )
