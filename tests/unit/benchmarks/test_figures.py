"""The arithmetic behind `make bench`: a wrong verdict would be believed."""

import pytest

from benchmarks.chunker_speed.bench import points_behind
from benchmarks.harness.figures import Verdict, fastest, ratios
from benchmarks.harness.order import in_turn


def test_ratios_are_taken_within_a_repetition():
    assert ratios([1.0, 4.0], [2.0, 1.0]) == [0.5, 4.0]


def test_runs_of_different_number_are_no_pairs():
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_the_fastest_is_the_one_with_the_smallest_median_among_those_asked_for():
    runs = {"cp": [0.1, 0.1], "borg": [4.0, 90.0, 4.1], "casync": [5.0, 5.0, 1.0], "restic": []}
    assert fastest(runs, ["casync", "restic", "borg"]) == "borg"


def test_without_any_peer_nobody_is_the_fastest():
    assert fastest({"borg": []}, ["borg", "restic"]) is None


def test_a_verdict_is_the_median_of_its_runs():
    assert Verdict.of("work", [0.9, 0.1, 0.2], "x", 0.3).figure == 0.2


@pytest.mark.parametrize(
    ("figure", "at_least", "outcome"),
    [
        (0.31, False, "NOT MET"),
        (0.3, False, "met"),
        (0.2, False, "goal"),
        (0.1, True, "NOT MET"),
        (0.3, True, "goal"),
    ],
)
def test_targets_and_goals_are_bounds_that_may_be_touched(figure, at_least, outcome):
    assert Verdict("work", figure, "x", 0.3, goal=0.2 if not at_least else 0.3, at_least=at_least).outcome == outcome


def test_what_was_not_measured_is_never_met():
    assert Verdict("work", None, "x", 0.3).outcome == "not measured"


def test_a_figure_without_a_target_is_not_judged():
    assert Verdict("python -c pass", 12.0, "ms", None).outcome == "-"


def test_the_range_is_shown_beside_the_median():
    assert Verdict.of("work", [10.0, 12.0, 30.0], "ms", 80).figure_text() == "12 ms (10 ms .. 30 ms)"


def test_points_behind_is_the_difference_of_the_stored_shares_with_seeds_averaged():
    one = {"bytes": 1, "balanced w16-v1:1": {"dedup_ratio": 2.0}, "balanced fastcdc-v1:1": {"dedup_ratio": 4.0}}
    other = {"balanced w16-v1:1": {"dedup_ratio": 4.0}, "balanced fastcdc-v1:1": {"dedup_ratio": 2.0}}
    small = {"small w16-v1:1": {"dedup_ratio": 2.0}, "small fastcdc-v1:1": {"dedup_ratio": 4.0}}
    sets = {"random-insertions-0": one, "random-insertions-1": other, "releases-a": one, "log": small}
    assert points_behind(sets, "balanced") == {"random-insertions": 0.0, "releases-a": 25.0}


def test_every_repetition_runs_everybody_once_and_nobody_always_follows_the_same_tool():
    tools = ["graviton", "borg", "restic", "casync", "cp"]
    orders = [in_turn(tools, repetition) for repetition in range(5)]
    assert all(sorted(order) == sorted(tools) for order in orders)
    for tool in tools:
        assert len({order[order.index(tool) - 1] for order in orders}) > 1
