"""Real architectures, cut and run in pieces: what the unit tests show on toys holds on models as users have them."""

import sys
from pathlib import Path

import pytest
import torch

from dynamic_exit.errors import CaptureError

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import zoo  # noqa: E402
import zoo_models  # noqa: E402

MAKERS = {
    **{name: lambda name=name: zoo_models.timm_family(name) for name in ("resnet", "convnext", "efficientnet")},
    **{name: lambda name=name: zoo_models.timm_family(name) for name in ("deit", "vision_transformer_relpos")},
    **{name: zoo_models.HUGGING_FACE[name] for name in ("bert", "distilbert", "deberta-v2", "swin", "ast (audio)")},
    **{name: each for name, each in zoo_models.BY_HAND.items() if name != "data-dependent control flow"},
}
WITHOUT_CUTS = {"recurrent"}


@pytest.mark.parametrize("name", MAKERS)
def test_segments_answer_what_the_model_answers(name):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    row = zoo.measure(*MAKERS[name]())
    assert row["difference"] == 0.0 and row["difference_after_exits"] <= 1e-5
    assert row["macs_of_segments"] == pytest.approx(row["macs"]) and row["state_unchanged"]
    assert (row["cuts"] == 0) == (name in WITHOUT_CUTS)


def test_what_cannot_be_captured_is_refused_by_the_statement_in_the_way():
    with pytest.raises(CaptureError, match=r"`if x.sum\(\) > 0:` \(zoo_models.py:"):
        zoo.measure(*zoo_models.BY_HAND["data-dependent control flow"]())
