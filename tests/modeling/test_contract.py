"""The contract of Optimum's `ORTModelFor...` classes: arguments, calls, attributes and errors, one row each.

Where Optimum or transformers answer otherwise, a comment of the row says so.
"""

import copy
import json
import pickle
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny
import torch
import words
from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification, BertConfig
from transformers.modeling_outputs import ImageClassifierOutput, SequenceClassifierOutput

from dynamic_exit import DynamicExitModelForImageClassification as Images
from dynamic_exit import DynamicExitModelForSequenceClassification as Texts
from dynamic_exit import errors, load_runner
from dynamic_exit.modeling import AutoDynamicExitModel

CPU = "CPUExecutionProvider"
IDS = torch.tensor([[2, 3, 0], [4, 4, 4]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])
PIXELS, _ = tiny.samples("test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return words.write_folder(tmp_path_factory.mktemp("contract") / "model")


@pytest.fixture
def model(folder):
    return Texts.from_pretrained(folder)


@pytest.fixture(params=["single", "segments", "torch"])
def loaded(request):
    """A model of each kind of folder."""
    fixture = {"single": "ran", "segments": "ran_segments", "torch": "ran_torch"}[request.param]
    return request.param, Images.from_pretrained(request.getfixturevalue(fixture).folder, operating_point="frugal")


def options() -> onnxruntime.SessionOptions:
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = 2
    return made


ARGUMENTS = [
    ({"provider": CPU}, lambda m: m.provider == CPU),
    ({"provider": None}, lambda m: m.provider == CPU),
    ({"providers": [CPU]}, lambda m: m.providers == [CPU]),
    ({"providers": (CPU,)}, lambda m: m.providers == [CPU]),
    ({"providers": [(CPU, {})]}, lambda m: m.providers == [CPU]),  # Optimum takes names alone, onnxruntime both
    ({"providers": [CPU], "provider": "NoSuchProvider"}, lambda m: m.providers == [CPU]),  # as Optimum: taken before
    ({"provider_options": {}}, lambda m: m.provider_options == {CPU: {}}),
    ({"provider_options": [{}], "providers": [CPU]}, lambda m: m.provider_options == {CPU: {}}),
    ({"provider": CPU, "provider_options": {"a": "b"}}, lambda m: m.providers == [CPU]),
    ({"session_options": options()}, lambda m: m.session.get_session_options().intra_op_num_threads == 2),
    ({"use_io_binding": None}, lambda m: m.use_io_binding is False),
    ({"use_io_binding": False}, lambda m: m.use_io_binding is False),
    ({"file_name": "model.onnx"}, lambda m: m.path.name == "model.onnx"),
    ({"file_name": None}, lambda m: m.path.name == "model.onnx"),
    ({"subfolder": ""}, lambda m: m.path.name == "model.onnx"),
    ({"subfolder": None}, lambda m: m.path.name == "model.onnx"),
    ({"model_save_dir": "elsewhere"}, lambda m: m.model_save_dir == Path("elsewhere")),
    ({"model_save_dir": Path("elsewhere")}, lambda m: m.model_save_dir == Path("elsewhere")),
    ({"dtype": torch.float32}, lambda m: m.dtype is torch.float32),
    ({"dtype": "float32"}, lambda m: m.dtype is torch.float32),
    ({"dtype": "auto"}, lambda m: m.dtype is torch.float32),
    ({"dtype": None}, lambda m: m.dtype is torch.float32),
    ({"cache_dir": "cache"}, lambda m: not Path("cache").exists()),
    ({"local_files_only": True}, lambda m: True),
    ({"force_download": False, "token": None, "revision": "main"}, lambda m: True),
    ({"trust_remote_code": True}, lambda m: True),
    ({"compile": None}, lambda m: True),
    ({"_from_auto": True, "adapter_kwargs": None}, lambda m: True),  # what auto classes of transformers add
]


@pytest.mark.parametrize(("given", "holds"), ARGUMENTS, ids=["-".join(given) for given, _ in ARGUMENTS])
def test_arguments_that_loading_takes(folder, model, given, holds):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for load in (Texts.from_pretrained, AutoDynamicExitModel.from_pretrained):
            again = load(folder, operating_point="careful", **given)
            assert type(again) is Texts and holds(again)
            assert torch.equal(again(IDS, MASK).logits, model(IDS, MASK).logits)


def test_a_temporary_folder_lives_as_long_as_the_model(folder):
    place = tempfile.TemporaryDirectory()
    model = Texts.from_pretrained(folder, model_save_dir=place)
    name = Path(place.name)
    del place
    assert model.model_save_dir == name and name.is_dir()
    assert copy.deepcopy(model).model_save_dir == pickle.loads(pickle.dumps(model)).model_save_dir == name
    del model
    assert not name.exists()


BINDING = "use_io_binding=True changes nothing: inputs and answers are in the memory of the CPU"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"use_io_binding": True},
            BINDING,
        ),
        ({"dtype": torch.float16}, "dtype=torch.float16 changes nothing: the model computes as it was exported"),
        ({"dtype": "bfloat16"}, "dtype=torch.bfloat16 changes nothing: the model computes as it was exported"),
    ],
)  # Optimum ignores a dtype without a word
def test_arguments_that_change_nothing_say_so(folder, given, message):
    for load in (Texts.from_pretrained, AutoDynamicExitModel.from_pretrained):
        with pytest.warns(UserWarning) as said:
            load(folder, **given)
        assert [str(each.message) for each in said] == [message]


INCOMPLETE = "'{}/below' has no config.json; it is no complete dynamic model, export it anew"
NO_CONFIG = "config 'nowhere' does not exist; give a configuration, its file or its folder"
NO = "from_pretrained has no argument"
FILE = "the dynamic model in '{}' is model.onnx, not"
CONFIG = "config must be a DynamicExitModelConfig, its file or its folder; got a "
REFUSED = [
    ({"provder": CPU}, TypeError, f"{NO} 'provder'; did you mean 'provider'?"),
    ({"provider_option": {}}, TypeError, f"{NO} 'provider_option'; did you mean 'provider_options'?"),
    ({"torch_dtype": "auto"}, TypeError, f"{NO} 'torch_dtype'; did you mean 'dtype'?"),
    ({"filename": "a"}, TypeError, f"{NO} 'filename'; did you mean 'file_name'?"),
    ({"sub_folder": "a"}, TypeError, f"{NO} 'sub_folder'; did you mean 'subfolder'?"),
    ({"operating_points": "a"}, TypeError, f"{NO} 'operating_points'; did you mean 'operating_point'?"),
    ({"providers": CPU}, TypeError, f"providers must be a list of names; got '{CPU}', give it as provider="),
    ({"use_io_binding": "yes"}, TypeError, "use_io_binding must be True, False or None; got 'yes'"),
    ({"config": BertConfig()}, TypeError, f"{CONFIG}BertConfig"),
    ({"config": {"id2label": {}}}, TypeError, f"{CONFIG}dict"),
    ({"config": "nowhere"}, FileNotFoundError, NO_CONFIG),
    ({"dtype": "half precision"}, ValueError, "dtype must be one of torch's, its name or 'auto'; got 'half precision'"),
    ({"dtype": np.float32}, ValueError, f"dtype must be one of torch's, its name or 'auto'; got {np.float32!r}"),
    ({"provider_options": [{}, {}]}, ValueError, "2 provider_options came in for 1 providers; give one for each"),
    ({"file_name": "other.onnx"}, FileNotFoundError, f"{FILE} 'other.onnx'; leave file_name out"),
    ({"file_name": "config.json"}, ValueError, f"{FILE} 'config.json'; leave file_name out"),
    ({"subfolder": "below"}, FileNotFoundError, INCOMPLETE),
    ({"operating_point": "thrifty"}, ValueError, "there is no operating point 'thrifty'; known are: backbone, careful"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "kind", "message"), REFUSED, ids=["-".join(given) for given, *_ in REFUSED])
def test_arguments_that_loading_refuses(folder, given, kind, message):
    for load in (Texts.from_pretrained, AutoDynamicExitModel.from_pretrained):
        with pytest.raises(errors.DynamicExitError) as refused:
            load(folder, **given)
        assert str(refused.value) == message.replace("{}", str(folder))
        assert isinstance(refused.value, kind)


def test_an_argument_like_no_other_is_answered_with_all(folder):
    with pytest.raises(TypeError) as refused:
        Texts.from_pretrained(folder, quantization_config=None)
    said = str(refused.value)
    assert said.startswith(f"{NO} 'quantization_config'; known are: cache_dir, compile, config,")
    assert said.endswith("use_io_binding") and "_" not in said.split("known are: ")[1].split(", ")


MISSING = "folder '/nowhere/at/all' does not exist; give a folder that `dynamic-exit run` wrote"


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda m: Texts.from_pretrained("/nowhere/at/all"), FileNotFoundError, MISSING),
        (lambda m: AutoDynamicExitModel.from_pretrained("/nowhere/at/all"), FileNotFoundError, MISSING),
        (lambda m: load_runner("/nowhere/at/all"), FileNotFoundError, MISSING),
        (lambda m: Images.from_pretrained(m.folder), ValueError, "is for text-classification, DynamicExitModelFor"),
        (
            lambda m: Texts.from_pretrained(m.folder, provider="X"),
            ValueError,
            "onnxruntime has no provider 'X' on this",
        ),
        (
            lambda m: Texts.from_pretrained(m.folder, providers=[CPU, "X"]),
            ValueError,
            "onnxruntime has no provider 'X'",
        ),
        (lambda m: load_runner(m.folder, provider="X"), ValueError, "onnxruntime has no provider 'X' on this machine"),
        (lambda m: load_runner(m.folder)(IDS.float().numpy()), ValueError, "the model takes the inputs input_ids, att"),
        (lambda m: Texts.from_pretrained(m.folder, recipe={}), ValueError, "a recipe came in without export=True"),
        (
            lambda m: AutoDynamicExitModel.from_pretrained(m.folder, export=True),
            ValueError,
            "the task is not known before",
        ),
        (lambda m: m(IDS + 0.5), ValueError, "input 'input_ids' must be of type int64; got float32"),
        (
            lambda m: m(IDS, pixel_values=IDS),
            ValueError,
            "the model takes the inputs input_ids, attention_mask; got inpu",
        ),
        (lambda m: m(), ValueError, "the model takes the inputs input_ids, attention_mask; got none"),
        (lambda m: m(labels=IDS), ValueError, "the model takes the inputs input_ids, attention_mask; got none"),
        (lambda m: m(IDS, thresholds=[0.1, 0.2]), ValueError, ""),
        (lambda m: m.set_operating_point("x"), ValueError, "there is no operating point 'x'; known are: "),
        (
            lambda m: m.set_operating_point(max_acuracy_drop=0.01),
            TypeError,
            "set_operating_point has no argument 'max_acuracy_drop'; did you mean 'max_accuracy_drop'?",
        ),
        (lambda m: m.to("cuda"), ValueError, "device 'cuda' cannot be chosen here; load the model with provider="),
        (lambda m: m.to(0), ValueError, "device '0' cannot be chosen here; load the model with provider="),
        (lambda m: m.to(device=torch.device("cuda", 1)), ValueError, "device 'cuda:1' cannot be chosen here; "),
        (lambda m: m.to("cpus"), ValueError, "'cpus' is no device of torch; leave it out, the model is on the CPU"),
        (lambda m: m.to([]), ValueError, "'[]' is no device of torch; leave it out, the model is on the CPU"),
        (lambda m: m.to("cpu", dtype="float33"), ValueError, "dtype must be one of torch's, its name or 'auto'; got"),
        (lambda m: m.train(), errors.ExportError, "a dynamic model cannot be trained; train its backbone, and run the"),
        (lambda m: m.save_pretrained("/dev/null"), OSError, "folder '/dev/null' cannot be written: "),
        (
            lambda m: AutoModelForSequenceClassification.from_config(m.config),
            errors.ExportError,
            "a configuration holds ",
        ),
    ],
)
def test_errors_are_the_built_in_ones_too(model, call, kind, message):
    with pytest.raises(errors.DynamicExitError) as refused:
        call(model)
    assert isinstance(refused.value, kind)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_damaged_file_is_refused_as_before(folder, tmp_path):
    """A pipeline would bury a ValueError in its own tracebacks."""
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copied / "model.onnx").write_bytes(b"no model")
    with pytest.raises(errors.ExportError, match="its checksum differs") as refused:
        Texts.from_pretrained(copied)
    assert not isinstance(refused.value, ValueError | OSError)


@pytest.mark.parametrize("below", ["onnx", "onnx/int8"])
def test_a_configuration_above_the_subfolder_is_found(folder, model, tmp_path, below):
    for name in ("model.onnx", "operating_points.json"):
        (tmp_path / below).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, tmp_path / below / name)
    shutil.copy(folder / "config.json", tmp_path)
    for load in (
        Texts.from_pretrained,
        AutoDynamicExitModel.from_pretrained,
        AutoModelForSequenceClassification.from_pretrained,
    ):
        if load == AutoModelForSequenceClassification.from_pretrained:
            # transformers itself looks for config.json in the subfolder alone; with a configuration it need not look
            again = load(tmp_path, subfolder=below, config=AutoConfig.from_pretrained(tmp_path))
        else:
            again = load(tmp_path, subfolder=below)
        assert again.path == tmp_path / below / "model.onnx"
        assert torch.equal(again(IDS, MASK).logits, model(IDS, MASK).logits)
    # one beside the model is nearer
    content = json.loads((folder / "config.json").read_text())
    (tmp_path / below / "config.json").write_text(json.dumps({**content, "id2label": {"0": "a", "1": "b", "2": "c"}}))
    assert Texts.from_pretrained(tmp_path, subfolder=below).config.id2label[0] == "a"
    with pytest.raises(errors.ExportError, match=f"'{tmp_path}/nowhere' has no config.json"):
        Texts.from_pretrained(tmp_path, subfolder="nowhere")


def test_a_configuration_is_an_object_a_file_or_a_folder(folder, tmp_path):
    config = AutoConfig.from_pretrained(folder)
    config.id2label = {0: "a", 1: "b", 2: "c"}
    config.save_pretrained(tmp_path)
    shutil.copy(tmp_path / "config.json", tmp_path / "other.json")
    for given in (config, tmp_path, str(tmp_path), tmp_path / "config.json", tmp_path / "other.json"):
        for load in (Texts.from_pretrained, AutoDynamicExitModel.from_pretrained):
            assert load(folder, given).config.id2label == load(folder, config=given).config.id2label == config.id2label


EXTRA = torch.ones_like(IDS)
SAME = [
    {"return_dict": True},
    {"return_dict": None},
    {"labels": None},
    {"token_type_ids": None},
    {"attention_mask": MASK, "head_mask": None, "inputs_embeds": None, "position_ids": None},
    {"output_attentions": False, "output_hidden_states": False},
    {"output_attentions": None},
]
LEFT_OUT = {
    "special_tokens_mask": EXTRA,
    "offset_mapping": torch.zeros(2, 3, 2),
    "overflow_to_sample_mapping": torch.arange(2),
    "length": torch.tensor([2, 3]),
    "num_truncated_tokens": torch.zeros(2),
    "overflowing_tokens": [[], []],
    "labels": torch.tensor([0, 1]),  # Optimum gives no loss either
    "output_attentions": True,
    "output_hidden_states": True,
}


@pytest.mark.parametrize("given", SAME, ids=str)
def test_calls_that_change_nothing(model, given):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = model(**{"input_ids": IDS, "attention_mask": MASK, **given})
    assert torch.equal(answer.logits, model(IDS, MASK).logits)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_extras_are_left_out_with_one_warning(model, name):
    expected = model(IDS, MASK).logits
    with pytest.warns(UserWarning) as said:
        for _ in range(3):
            assert torch.equal(model(IDS, MASK, **{name: LEFT_OUT[name]}).logits, expected)
    assert [str(each.message) for each in said] == [f"'{name}' is left out: the model takes input_ids, attention_mask"]
    assert said[0].filename == __file__, "the caller's line"


def test_extras_of_images_are_left_out(ran):
    model = Images.from_pretrained(ran.folder)
    with pytest.warns(UserWarning, match="^'labels' is left out: the model takes input$"):
        assert np.array_equal(model(PIXELS, labels=[0]).logits, model(pixel_values=PIXELS, labels=None).logits)


def test_all_that_a_tokenizer_gives_is_taken(model):
    batch = words.tokenizer()(
        ["good bad", "fine"], padding=True, return_tensors="pt", return_special_tokens_mask=True, return_length=True
    )
    assert {"special_tokens_mask", "length", "token_type_ids"} <= set(batch)
    expected = model(batch["input_ids"], batch["attention_mask"])
    assert torch.equal(model(**batch).logits, expected.logits)


def test_answers_are_of_transformers_types(model, ran):
    images = Images.from_pretrained(ran.folder)
    for answer, kind in ((model(IDS, MASK), SequenceClassifierOutput), (images(PIXELS), ImageClassifierOutput)):
        assert isinstance(answer, kind)
        assert (answer.loss, answer.hidden_states, answer.attentions) == (None, None, None)
        assert list(answer) == ["logits", "exit_index", "confidence"]
        assert answer[0] is answer["logits"] is answer.logits is answer.to_tuple()[0]


def test_without_return_dict_the_answer_is_a_tuple(model):
    """As in transformers, without what is None; Optimum gives the logits alone."""
    expected = model(IDS, MASK)
    for ids, mask in ((IDS, MASK), (IDS.numpy(), MASK.numpy())):
        answer = model(ids, mask, return_dict=False)
        assert type(answer) is tuple and type(answer[0]) is type(ids)
        for one, other in zip(answer, expected.to_tuple(), strict=True):
            assert np.array_equal(one, other)


MOVES = {
    "eval": lambda m: m.eval(),
    "train(False)": lambda m: m.train(False),
    "train(mode=False)": lambda m: m.train(mode=False),
    "to()": lambda m: m.to(),
    "to(dtype)": lambda m: m.to(torch.float32),
    "to(dtype=)": lambda m: m.to(dtype=torch.float32),
    "to(cpu)": lambda m: m.to("cpu"),
    "to(device)": lambda m: m.to(torch.device("cpu")),
    "to(device=)": lambda m: m.to(device="cpu"),
    "to(-1)": lambda m: m.to(-1),  # as Optimum and pipelines call the CPU
    "to(cpu, dtype)": lambda m: m.to("cpu", torch.float32),
    "to(cpu, dtype, non_blocking)": lambda m: m.to("cpu", torch.float32, True),
    "to(non_blocking=)": lambda m: m.to("cpu", non_blocking=True),
    "to(copy=, memory_format=)": lambda m: m.to("cpu", copy=False, memory_format=torch.channels_last),
    "to(tensor)": lambda m: m.to(torch.zeros(1)),
    "to(None)": lambda m: m.to(None),
}


@pytest.mark.parametrize("name", MOVES)
def test_calls_of_torch_modules(model, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MOVES[name](model) is model
    assert (model.device, model.dtype, model.training) == (torch.device("cpu"), torch.float32, False)


@pytest.mark.parametrize(
    "call", [lambda m: m.to(torch.float16), lambda m: m.to("cpu", torch.float16), lambda m: m.to(torch.zeros(1).half())]
)  # Optimum ignores it without a word
def test_another_dtype_is_ignored_with_one_warning(model, call):
    with pytest.warns(UserWarning) as said:
        assert call(model) is call(model) is model
    assert [str(each.message) for each in said] == [
        "torch.float16 changes nothing: the model computes as it was exported"
    ]
    assert said[0].filename == __file__
    assert model(IDS).logits.dtype == torch.float32


def test_attributes(loaded):
    kind, model = loaded
    assert (model.device, model.dtype, model.use_io_binding) == (torch.device("cpu"), torch.float32, False)
    assert model.model_save_dir == Path(model.folder)
    assert model.path == Path(model.folder) / ("model.onnx" if kind == "single" else "")
    assert isinstance(model.session, onnxruntime.InferenceSession) == (kind == "single")
    assert model.providers == ([] if kind == "torch" else [CPU])
    assert model.provider == (None if kind == "torch" else CPU)
    assert model.provider_options == ({} if kind == "torch" else {CPU: {}})
    # Optimum has dicts of name to place; both are walked and searched alike
    assert model.input_names == ("input",) and model.output_names == ("logits", "exit_index", "confidence")
    assert model.input_shapes == {"input": ["batch", 1, 6, 6]}
    assert model.input_dtypes == {"input": "tensor(float)"}
    assert model.output_shapes == {"logits": ["batch", 3], "exit_index": ["batch"], "confidence": ["batch"]}
    assert [*model.output_dtypes.values()] == ["tensor(float)", "tensor(int64)", "tensor(float)"]
    assert (model.auto_model_class, model.main_input_name) == (AutoModelForImageClassification, "pixel_values")
    assert model.can_generate() is False
    if kind == "single":
        outputs = {each.name: each.type for each in model.session.get_outputs()}
        inputs = {each.name: each.type for each in model.session.get_inputs() if each.name != "thresholds"}
        assert (outputs, inputs) == (model.output_dtypes, model.input_dtypes)


def test_attributes_of_text(model, folder):
    assert (model.auto_model_class, model.main_input_name) == (AutoModelForSequenceClassification, "input_ids")
    assert model.input_shapes == {"input_ids": ["batch", "sequence"], "attention_mask": ["batch", "sequence"]}
    assert model.input_dtypes == {"input_ids": "tensor(int64)", "attention_mask": "tensor(int64)"}


COPIES = {
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "the oldest pickle": lambda m: pickle.loads(pickle.dumps(m, 0)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "deepcopy in a list": lambda m: copy.deepcopy([m])[0],
    "twice": lambda m: pickle.loads(pickle.dumps(copy.deepcopy(m))),
}


@pytest.mark.parametrize("way", COPIES)
def test_copies_open_the_folder_at_the_same_point(loaded, way):
    _, model = loaded
    again = COPIES[way](model)
    assert again is not model and again.runner is not model.runner and type(again) is type(model)
    assert again.operating_point.name == "frugal"
    assert np.array_equal(again(PIXELS).logits, model(PIXELS).logits)
    again.set_operating_point("backbone")
    assert model.operating_point.name == "frugal"


def test_copies_keep_options_and_configuration(folder):
    model = Texts.from_pretrained(folder, providers=[(CPU, {})], model_save_dir="elsewhere")
    model.config.id2label[0] = "dreadful"
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.config.id2label[0] == "dreadful" and again.config is not model.config
        assert again._opening.options["providers"] == [(CPU, {})] and again.model_save_dir == Path("elsewhere")


def test_relative_folders_are_found_from_elsewhere(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder.parent)
    content = [pickle.dumps(load(folder.name)) for load in (Texts.from_pretrained, load_runner)]
    monkeypatch.chdir(tmp_path)
    for each in content:
        assert pickle.loads(each).stages == ("saver",)


def test_what_cannot_be_copied_says_so(folder, model):
    chosen = Texts.from_pretrained(folder, session_options=options())
    with pytest.raises(errors.ExportError, match=r"^a model that was loaded with session_options= cannot be pickled, "):
        pickle.dumps(chosen)
    assert copy.deepcopy(chosen).session.get_session_options().intra_op_num_threads == 2  # in this process it can
    made = Texts(model.runner, model.config, model.operating_points)
    for way in (pickle.dumps, copy.deepcopy):
        with pytest.raises(errors.ExportError, match="^the model was not loaded from a folder and cannot be copied; "):
            way(made)


def test_runners_without_torch_are_copied_too(folder):
    runner = load_runner(folder, "backbone")
    for way in (copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))):
        again = way(runner)
        assert again.operating_point.name == "backbone"
        ids, mask = IDS.numpy(), MASK.numpy()
        assert np.array_equal(again(ids, mask).logits, runner(ids, mask).logits)
