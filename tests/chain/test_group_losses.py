import numpy as np
import pytest
from instances import savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.group_losses import group_drops, group_losses
from dynamic_exit.chain.thresholds import Configuration


@pytest.mark.parametrize("groups", [None, np.arange(300) % 3 + 4], ids=["classes", "groups"])
def test_each_group_has_the_losses_of_its_own_samples(groups):
    records = savers(0, 300)._replace(groups=groups)
    configuration = Configuration(((records.stages[0], -1.0),))
    labels = np.asarray(records.labels)
    backbone, chain = records.topk_classes[-1, :, 0] == labels, evaluate(records, configuration).prediction == labels
    lost, group = backbone.astype(float) - chain, labels if groups is None else groups
    assert 0 < abs(lost).sum() < 300
    found, drops = group_losses(records, configuration), group_drops(records, configuration)
    assert found.keys() == drops.keys() == {*group.tolist()}
    for name, losses in found.items():
        assert losses.tolist() == lost[group == name].tolist()
        assert drops[name] == pytest.approx(lost[group == name].mean())
