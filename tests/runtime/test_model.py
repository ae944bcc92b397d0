import copy
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dynamic_exit.errors import ModelError, OperatingPointError
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.runtime.model import DynamicExitModel

INF = float("inf")
NAMES = ("saver", "early.0", "twin", "late")


class Counted(nn.Module):
    """Notes how many rows it was given at each call, and what it takes."""

    def __init__(self, module, input_names=None):
        super().__init__()
        self.module = module
        self.rows = []
        if input_names:
            self.input_names = input_names

    def forward(self, *tensors):
        self.rows.append(tensors[0].shape[0])
        return self.module(*tensors)


def parts(seed=0):
    torch.manual_seed(seed)
    segments = [Counted(nn.Linear(6, 8)), Counted(nn.Sequential(nn.Tanh(), nn.Linear(8, 8))), Counted(nn.Linear(8, 4))]
    savers = {"saver": Counted(nn.Linear(6, 4))}
    # in another order than by position; a dot in a name; two at one position
    exits = {
        "late": (1, Counted(nn.Linear(8, 4))),
        "early.0": (0, Counted(nn.Linear(8, 4))),
        "twin": (0, Counted(nn.Linear(8, 4))),
    }
    return segments, savers, exits


def build(fuse="none", thresholds=None, seed=0):
    segments, savers, exits = parts(seed)
    return DynamicExitModel(
        segments, input_names=["x"], savers=savers, exits=exits, fuse=fuse, thresholds=thresholds
    ).eval()


def by_row(model, x):
    """The rule of the chain, row by row, from every stage's logits on every row."""
    logits = model.all_stage_logits(x)
    answers = []
    for row in range(len(x)):
        total, seen = 0, 0
        for index, (name, each) in enumerate(logits.items()):
            threshold = torch.tensor([*model.thresholds, -INF])[index]
            if threshold == INF:
                continue
            probabilities = each[row].float().softmax(0)
            total, seen = total + probabilities, seen + 1
            evidence = probabilities if model.fuse.rule == "none" else total / seen
            if name == "final" or evidence.max() > threshold:
                answers.append((each[row] if model.fuse.rule == "none" else evidence.log(), index, evidence.max()))
                break
    return [torch.stack([torch.as_tensor(each) for each in column]) for column in zip(*answers, strict=True)]


MODELS = {fuse: build(fuse) for fuse in ("none", "mean")}


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 257),
    fuse=st.sampled_from(["none", "mean"]),
    thresholds=st.lists(st.one_of(st.floats(0.2, 0.6), st.sampled_from([INF, -INF, 0.0])), min_size=4, max_size=4),
    seed=st.integers(0, 1000),
)
@torch.no_grad()
def test_any_batch_and_any_pattern_answer_row_by_row(rows, fuse, thresholds, seed):
    model = MODELS[fuse]
    model.set_thresholds(thresholds)
    x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))
    answer = model(x)
    logits, index, confidence = by_row(model, x)
    sure = (confidence.unsqueeze(1) - torch.tensor(model.thresholds)).abs().min(1).values > 1e-5
    assert torch.equal(answer.exit_index[sure], index[sure])
    torch.testing.assert_close(answer.logits[sure], logits[sure], atol=1e-5, rtol=0)
    torch.testing.assert_close(answer.confidence[sure], confidence[sure], atol=1e-5, rtol=0)
    assert (answer.exit_index.dtype, answer.confidence.dtype) == (torch.int64, torch.float32)


def test_the_chain_is_savers_then_exits_by_position():
    model = build()
    assert model.chain == NAMES and model.positions == (-1, 0, 0, 1)
    assert model.thresholds == (INF,) * 4
    assert list(model.all_stage_logits(torch.randn(2, 6))) == [*NAMES, "final"]
    assert all(each.rows == [2] for each in [*model.segments, *model.heads, *model.savers])


def test_what_is_off_or_not_reached_is_not_run():
    model = build(thresholds=[INF, -INF, INF, INF])
    model(torch.randn(5, 6))
    assert [each.rows for each in model.segments] == [[5], [], []]
    assert [each.rows for each in model.heads] == [[5], [], []] and model.savers[0].rows == []


def test_rows_that_stay_are_gathered_once_and_only_then():
    model = build()
    x = torch.randn(8, 6)
    with torch.no_grad():
        confidence = model.all_stage_logits(x)["early.0"].softmax(1).amax(1)
        middle = confidence.median().item()
        model.set_thresholds([1.0, middle, INF, 1.0])
        answer = model(x)
    leaving = int((confidence > torch.tensor(middle)).sum())
    assert 0 < leaving < 8 and (answer.exit_index == 1).sum() == leaving
    assert [each.rows[-1] for each in model.segments] == [8, 8 - leaving, 8 - leaving]


def test_all_off_is_the_backbone_itself():
    for fuse in ("none", "mean"):
        model = build(fuse)
        x = torch.randn(7, 6)
        with torch.no_grad():
            answer, final = model(x), model.all_stage_logits(x)["final"]
        expected = final if fuse == "none" else final.softmax(1).log()
        assert torch.equal(answer.logits, expected) and (answer.exit_index == 4).all()


def test_nan_goes_on():
    model = build(thresholds=[-INF, INF, INF, INF])
    x = torch.randn(4, 6)
    with torch.no_grad():
        model.savers[0].module = _NanAt(model.savers[0].module, row=2)
        answer = model(x)
        final = model.all_stage_logits(x)["final"]
    assert answer.exit_index.tolist() == [0, 0, 4, 0]
    torch.testing.assert_close(answer.logits[2], final[2])


class _NanAt(nn.Module):
    def __init__(self, module, row):
        super().__init__()
        self.module, self.row = module, row

    def forward(self, x):
        logits = self.module(x).clone()
        logits[self.row] = float("nan")
        return logits


def test_inputs_go_by_name_and_are_gathered_for_the_segments_that_want_them():
    class Add(nn.Module):
        def forward(self, hidden, extra):
            return hidden + extra

    segments = [nn.Linear(6, 4), Counted(Add(), input_names=("hidden", "extra"))]
    segments[0].input_names = ("x",)
    head = nn.Linear(4, 4)
    model = DynamicExitModel(segments, input_names=["x", "extra"], exits={"exit": (0, head)})
    x, extra = torch.randn(6, 6), torch.randn(6, 4)
    with torch.no_grad():
        whole = segments[0](x) + extra
        model.set_thresholds([head(segments[0](x)).softmax(1).amax(1).median().item()])
        answer = model(extra=extra, x=x)
    final = answer.exit_index == 1
    assert 0 < final.sum() < 6
    torch.testing.assert_close(answer.logits[final], whole[final])


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        ((), {}, "input 'x' is missing; the model takes x"),
        ((torch.ones(1, 6), torch.ones(1, 6)), {}, "2 inputs came in; the model takes x"),
        (
            (torch.ones(1, 6),),
            {"x": torch.ones(1, 6)},
            "input 'x' came in twice, by position and by name; give it once",
        ),
        ((), {"y": torch.ones(1, 6)}, "the model takes no input 'y'; known are: x"),
        ((torch.ones(0, 6),), {}, "inputs need one batch size of 1 or more; got the shapes {'x': (0, 6)}"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(arguments, named, message):
    with pytest.raises(ModelError) as refusal:
        build()(*arguments, **named)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": []}, "a dynamic model needs segments and inputs; got 0 and 1"),
        ({"fuse": "median"}, "fuse must be 'mean', 'none' or 'product'; got 'median'"),
        ({"savers": {"late": nn.Linear(6, 4)}}, "stage 'late' is a saver and an exit; names must be unique"),
        ({"savers": {"final": nn.Linear(6, 4)}}, "a stage cannot be called 'final'; that is the backbone's own head"),
        (
            {"exits": {"last": (2, nn.Linear(8, 4))}},
            "exit 'last' sits after segment 2; only segments 0 to 1 are followed by more",
        ),
        (
            {"segments": [Counted(nn.Linear(6, 8), input_names=("z",)), nn.Linear(8, 8), nn.Linear(8, 4)]},
            "segment 0 takes 'z', which nothing gives; known are: x",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, message):
    segments, savers, exits = parts()
    with pytest.raises(ModelError) as refusal:
        DynamicExitModel(**{"segments": segments, "input_names": ["x"], "savers": savers, "exits": exits} | change)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [0.5],
            "1 thresholds came in for a chain of 4; give one for each of saver, early.0, twin, late",
        ),
        (
            [0.5, float("nan"), 0.5, 0.5],
            "a threshold must be a number; got [0.5, nan, 0.5, 0.5] for saver, early.0, twin, late",
        ),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(values, message):
    model = build(thresholds=[0.1, 0.2, 0.3, 0.4])
    with pytest.raises(OperatingPointError) as refusal:
        model.set_thresholds(values)
    assert str(refusal.value) == message
    assert model.thresholds == pytest.approx((0.1, 0.2, 0.3, 0.4))


def test_a_head_of_the_wrong_shape_is_refused_before_any_work():
    blocks = [nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)) for _ in range(2)]
    model = nn.Sequential(*blocks, nn.Linear(6, 4))
    program = capture(Classifier(model.eval()), (torch.randn(2, 6),))
    macs = {node.name: 1.0 for node in program.graph_module.graph.nodes if "linear" in node.name and node.args}
    segments = split(program, find_cuts(program, macs)[:1])
    with pytest.raises(ModelError) as refusal:
        DynamicExitModel(segments, input_names=program.input_names, exits={"exit": (0, nn.Linear(6, 3))})
    assert str(refusal.value) == "exit 'exit' must give logits (2, 4); got (2, 3)"
    with pytest.raises(ModelError, match="exit 'exit' cannot take a hidden state of shape"):
        DynamicExitModel(segments, input_names=program.input_names, exits={"exit": (0, nn.Linear(5, 4))})
    dynamic = DynamicExitModel(segments, input_names=program.input_names, exits={"exit": (0, nn.Linear(6, 4))})
    x = torch.randn(3, 6)
    assert torch.equal(dynamic(x).logits, model(x))


def test_precision_copy_and_state_leave_the_thresholds_alone():
    model = build(thresholds=[0.123456, INF, 0.5, 0.9])
    exact = model.thresholds
    twin = copy.deepcopy(model)
    assert model.half().thresholds == exact and model.heads[0].module.weight.dtype == torch.float16
    assert twin.heads[0].module.weight.dtype == torch.float32
    other = build(seed=1)
    other.load_state_dict(twin.state_dict())
    x = torch.randn(9, 6)
    with torch.no_grad():
        assert torch.equal(other(x).logits, twin(x).logits)
        assert model(x.half()).logits.dtype == torch.float16
    assert other.thresholds == exact


@torch.no_grad()
def test_thresholds_swap_while_other_threads_serve():
    model = build()
    x = torch.randn(16, 6)
    # either everything leaves at the saver or everything goes to the final: a mixture would show
    points = [[-INF, INF, INF, INF], [INF, INF, INF, INF], [INF, INF, INF, -INF]]
    wrong, stop = [], threading.Event()

    def serve():
        with torch.no_grad():
            while not stop.is_set():
                seen = set(model(x).exit_index.tolist())
                if len(seen) != 1 or not seen <= {0, 3, 4}:
                    wrong.append(seen)

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    for place in range(600):
        model.set_thresholds(points[place % 3])
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
