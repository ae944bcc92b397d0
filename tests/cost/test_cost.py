import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from dynamic_exit.cost import count_macs, measure_latency, node_macs
from dynamic_exit.cost.latency import _Round, _summary
from dynamic_exit.cost.waiting import Waits, _queued
from dynamic_exit.errors import ModelError


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


def burn(seconds):
    """Keep the calling thread's processor busy for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.fixture
def busy_cores():
    """Others that want every core, twice."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    yield
    for each in loops:
        each.kill()
        each.wait()


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="the system does not count waits")
def test_what_others_take_is_no_part_of_a_time(busy_cores):
    calls = {"one": lambda: burn(0.002), "ten": lambda: burn(0.02)}
    found = measure_latency(calls, rounds=5, warmup=1, at_least=0.02)
    assert found["one"].median == pytest.approx(0.002, rel=0.2) and found["ten"].median == pytest.approx(0.02, rel=0.2)


def test_a_round_lasts_as_long_as_it_is_told():
    lasted = []

    def call():
        lasted[-1] += 1
        burn(0.001)

    lasted.append(0)
    measure_latency({"short": call}, rounds=1, warmup=0, at_least=0.05, time_limit=0.0)
    assert lasted[0] >= 50  # and those that found how many calls that takes
    lasted.append(0)
    measure_latency({"short": call}, rounds=1, warmup=0, at_least=0.0, time_limit=0.0)
    assert lasted[1] == 1


def rounds_of(*seconds, waited=0.0, stolen=0.0, thread=1.0, process=1.0):
    """Timings of so many seconds on the clock; what threads take is a share of what was not waited."""
    worked = [each - waited - stolen for each in seconds]
    return [_Round(each, thread * work, process * work, Waits(waited, waited, stolen))
            for each, work in zip(seconds, worked, strict=True)]  # fmt: skip


@pytest.mark.parametrize(
    "made, rounds, median, kept",
    [
        (rounds_of(1.0, 3.0, 2.0), 3, 2.0, 3),
        (rounds_of(4.0, 6.0, 5.0, waited=2.0), 3, 2.5, 2),  # 2, 3 and 4 without its waits; the faster half
        (rounds_of(4.0, 6.0, 5.0, waited=2.0) + rounds_of(7.0), 1, 7.0, 1),
        (rounds_of(1.0, stolen=0.5) + rounds_of(3.0, 4.0, 5.0), 3, 4.0, 3),
        (rounds_of(1.0, 3.0, 2.0, thread=0.01, process=0.01), 3, 2.0, 3),
        (rounds_of(1.0, 3.0, 2.0, thread=0.9, process=3.6), 3, 2.0, 3),
        (rounds_of(2.0, 4.0, waited=1.0, thread=0.9, process=3.6), 2, 2.0, 1),
    ],
    ids=["undisturbed", "all disturbed", "one undisturbed", "stolen", "sleeping", "threads", "threads disturbed"],
)
def test_rounds_that_were_disturbed_least_count(made, rounds, median, kept):
    found = _summary(made, rounds, samples=1)
    assert (found.median, found.rounds) == (pytest.approx(median), kept)
    assert _summary(made, rounds, samples=4).median == pytest.approx(median / 4)


def test_a_system_that_counts_no_waits_is_no_obstacle(tmp_path):
    assert _queued(tmp_path / "schedstat") == 0.0
    (tmp_path / "schedstat").write_text("12 3000000 4\n")
    assert _queued(tmp_path / "schedstat") == pytest.approx(0.003)
    before, after = Waits(1.0, 2.0, 3.0), Waits(1.5, 1.0, 3.0)
    assert after.since(before) == Waits(0.5, 0.0, 0.0)  # threads that end take their counts along
