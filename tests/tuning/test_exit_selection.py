import numpy as np
import pytest
from instances import exits, random_records, savers

from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records, StageTable
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.exit_selection import drop_unhelpful_exits
from dynamic_exit.tuning.optimizer import optimize

GOALS = [Goal(max_accuracy_drop=drop) for drop in (0.0, 0.01)]
OPTIONS = SearchOptions("none", 2)


def with_exits(records: Records, places: list[float], logits: list[np.ndarray]) -> Records:
    """Savers and, behind them, exits at shares of the backbone's cost."""
    behind = Records.from_logits(
        records.labels,
        StageTable.of(
            [*(f"exit{place}" for place in range(len(places))), "final"],
            ["exit"] * len(places) + ["final"],
            [*range(len(places) + 1)],
            [0.001] * len(places) + [0.0],
            [*places, 1.0],
        ),
        [*logits, final_logits(records)],
    )
    return Records.join([records, behind], along="stages")


def final_logits(records: Records) -> np.ndarray:
    dense = np.full((len(records), 10), 1e-9)
    np.put_along_axis(dense, records.topk_classes[-1], records.topk_probabilities[-1], axis=1)
    return np.log(dense)


@pytest.fixture(scope="module")
def chain() -> Records:
    return savers(3, 300)


def test_an_exit_that_knows_what_the_final_knows_stays(chain):
    records = with_exits(chain, [0.3], [final_logits(chain)])
    assert drop_unhelpful_exits(records, GOALS, OPTIONS) is records
    found = optimize(records, GOALS, SearchOptions(fuse="none", max_savers=2))
    assert all("exit0" in dict(each.stages) for each in found)


@pytest.mark.parametrize("fuse", ["none", "mean"])
def test_exits_that_guess_go_however_many_they_are(chain, fuse):
    noise = np.random.default_rng(0).standard_normal((4, len(chain), 10)) * 2
    records = with_exits(chain, [0.4, 0.5, 0.6, 0.8], [*noise])
    kept = drop_unhelpful_exits(records, GOALS, SearchOptions(fuse, 2))
    assert kept.stages == chain.stages
    found = optimize(records, GOALS, SearchOptions(fuse=fuse, max_savers=2))
    assert found == optimize(chain, GOALS, SearchOptions(fuse=fuse, max_savers=2))


@pytest.mark.parametrize(
    "records", [savers(0, 300), exits(0, 300), random_records(1, 60, 4)], ids=["savers", "exits", "few samples"]
)
def test_where_there_is_no_choice_nothing_changes(records):
    assert drop_unhelpful_exits(records, GOALS, OPTIONS) is records
