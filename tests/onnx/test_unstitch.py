"""Parts come out of a stitched file as they went in."""

import numpy as np
import onnx
import pytest
from onnx import helper
from test_stitch import build, full_chain

from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.errors import ExportError
from dynamic_exit.onnx.part import OUTPUT
from dynamic_exit.onnx.session import PartSession, open_session
from dynamic_exit.onnx.unstitch import static_model, unstitch

ROWS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.mark.parametrize("fuse", [Evidence("none"), Evidence("product", "margin", (("a", 0.5),))], ids=str)
def test_every_part_answers_as_before_it_was_stitched(fuse):
    chain = full_chain(fuse)
    found = unstitch(build(chain, [0.5] * 4))
    assert (found.stages, found.fuse) == (chain.stages, fuse)
    assert [index for _, index in found.exits] == [0, 2]
    before = [*chain.savers, *chain.segments, *(part for part, _ in chain.exits)]
    after = [*found.savers, *found.segments, *(part for part, _ in found.exits)]
    for old, new in zip(before, after, strict=True):
        assert (new.name, new.input_names, new.output_kind, new.output_shape) == (
            old.name,
            old.input_names,
            old.output_kind,
            old.output_shape,
        )
        onnx.checker.check_model(new.proto, full_check=True)
        assert np.array_equal(PartSession(new).run(ROWS), PartSession(old).run(ROWS))


def test_a_file_made_of_taken_out_parts_is_the_same_file():
    model = build(full_chain(), [0.5] * 4)
    again = build(unstitch(model), [0.5] * 4)
    assert again.SerializeToString() == model.SerializeToString()


def test_segments_joined_are_the_backbone():
    chain = full_chain()
    file = build(chain, [0.5] * 4)
    hidden = ROWS
    for segment in chain.segments:
        hidden = PartSession(segment).run(hidden)
    static = static_model(unstitch(file).segments, file.graph.input[:1])
    onnx.checker.check_model(static, full_check=True)
    assert np.array_equal(open_session(static).run([OUTPUT], {"x": ROWS})[0], hidden)


def test_a_file_that_does_not_say_what_it_holds_is_refused():
    file = build(full_chain(), [0.5] * 4)
    kept = [entry for entry in file.metadata_props if entry.key != "chain"]
    del file.metadata_props[:]
    file.metadata_props.extend(kept)
    with pytest.raises(ExportError, match="no metadata 'chain'; export it anew"):
        unstitch(file)


def test_a_file_whose_parts_were_renamed_is_refused():
    file = build(full_chain(), [0.5] * 4)
    told = {entry.key: entry.value for entry in file.metadata_props}
    helper.set_model_props(file, told | {"chain": told["chain"].replace('"s1"', '"other"')})
    with pytest.raises(ExportError, match="holds no stage 'other'"):
        unstitch(file)
