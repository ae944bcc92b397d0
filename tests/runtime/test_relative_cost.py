"""Points of models in memory: what stands for the labels that there are none of."""

import numpy as np
from instances import random_records

from dynamic_exit.runtime.relative_cost import _consensus


def test_the_consensus_is_the_class_with_the_largest_mean_over_all_stages():
    records = random_records(seed=3, samples=200, stages=4)
    mean = np.zeros((200, 1 + int(records.topk_classes.max())))
    for sample in range(200):
        for stage in range(len(records.stages)):
            np.add.at(mean[sample], records.topk_classes[stage, sample], records.topk_probabilities[stage, sample])
    assert np.array_equal(_consensus(records), mean.argmax(axis=1))
    assert (_consensus(records) != records.topk_classes[-1, :, 0]).any()
