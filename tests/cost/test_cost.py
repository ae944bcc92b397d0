import time

import pytest
import torch
from torch import nn

from dynamic_exit.cost import count_macs, measure_latency, node_macs
from dynamic_exit.errors import ModelError

torch.set_num_threads(1)


def test_multiply_adds_are_counted_per_sample():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    x = torch.randn(3, 3, 8, 8)
    expected = 36 * 4 * 3 * 9 + 4 * 36 * 5
    assert count_macs(model, (x,)) == expected
    counted = node_macs(torch.fx.symbolic_trace(model), (x,))
    assert counted["_0"] == 36 * 4 * 3 * 9 and sum(counted.values()) == expected


def test_fused_attention_counts_like_plain_attention():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    fused = count_macs(layer, (x,))
    assert fused == 5 * (8 * 24 + 8 * 8 + 2 * 8 * 16) + 2 * 5 * 5 * 8
    assert torch.backends.mha.get_fastpath_enabled()


def test_counting_nothing_is_refused():
    with pytest.raises(ModelError, match="needs example inputs of one row or more"):
        count_macs(nn.Identity(), (torch.zeros(0, 3),))


def test_latency_is_a_median_per_sample_with_its_spread():
    threads = torch.get_num_threads()
    calls = {"slow": lambda: time.sleep(0.004), "fast": lambda: time.sleep(0.001)}
    found = measure_latency(calls, batch=2, rounds=5, warmup=1, threads=1)
    assert found["slow"].median > found["fast"].median >= 0.0005
    assert all(each.low <= each.median <= each.high and each.rounds == 5 for each in found.values())
    assert torch.get_num_threads() == threads
    assert measure_latency(calls, rounds=50, time_limit=0.0)["slow"].rounds == 1
    with pytest.raises(ModelError, match="timing needs calls and counts from 1"):
        measure_latency({}, rounds=1)
