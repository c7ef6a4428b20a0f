"""Warnings while a run goes on."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.core.errors import DivergedError
from dqn_cli.training.sanity import EPISODE_PATIENCE_STEPS, SanityMonitor, q_limit, refuse_non_finite
from tests.core.saving import reloaded


def names(warnings) -> list[str]:
    assert all("\n" not in warning.message for warning in warnings)
    return [warning.name for warning in warnings]


@pytest.mark.parametrize(("loss", "q_mean", "word"), [(math.nan, 1.0, "loss"), (1.0, math.inf, "Q-value")])
def test_what_is_no_number_ends_a_run(loss, q_mean, word):
    with pytest.raises(DivergedError, match=rf"(?s)^(?!.*\n)training has diverged: before step 1,000 the .*{word}"):
        refuse_non_finite(1_000, loss, q_mean)


def test_numbers_and_no_update_pass():
    refuse_non_finite(1, None, None)
    refuse_non_finite(1, 1e30, -1e30)


def test_the_limit_of_q():
    assert q_limit(1.0, 0.99) == pytest.approx(1_000.0)
    assert q_limit(2.5, 0.5) == pytest.approx(50.0)
    assert q_limit(1.0, 1.0) is None
    assert q_limit(0.0, 0.9) is None


class TestQ:
    def test_once_until_it_is_well_again(self):
        monitor = SanityMonitor(1)
        values = [99.0, 101.0, -150.0, 60.0, 101.0, 49.0, -101.0]
        found = [names(monitor.report(step, value, 100.0)) for step, value in enumerate(values)]
        assert found == [[], ["exploding_q"], [], [], [], [], ["exploding_q"]]

    def test_nothing_to_compare(self):
        monitor = SanityMonitor(1)
        assert names(monitor.report(1, None, 1.0)) == names(monitor.report(2, 1e9, None)) == []

    def test_the_message_has_the_figures(self):
        (warning,) = SanityMonitor(1).report(7, 1_234.0, 1_000.0)
        assert warning.step == 7
        assert "1234" in warning.message
        assert "at most 100" in warning.message


class TestNoEnd:
    def test_all_environments_together(self):
        monitor = SanityMonitor(3)
        patience = 3 * EPISODE_PATIENCE_STEPS
        assert names(monitor.report(patience, None, None)) == []
        assert names(monitor.report(patience + 1, None, None)) == ["no_episode_end"]
        assert names(monitor.report(patience + 2, None, None)) == []
        monitor.episode(patience + 10, 0.0)
        assert names(monitor.report(2 * patience + 10, None, None)) == []
        assert names(monitor.report(2 * patience + 11, None, None)) == ["no_episode_end"]


def collapses(scores: list[float]) -> list[int]:
    """Returns the episodes at which a collapse is to be told, from whole lists."""
    told, given = [], False
    for count in range(100, len(scores) + 1):
        means = [math.fsum(scores[end - 100 : end]) / 100 for end in range(100, count + 1)]
        start, spread = means[0], math.sqrt(math.fsum((score - means[0]) ** 2 for score in scores[:100]) / 100)
        gain = max(means) - start
        if means[-1] >= start + 0.75 * gain:
            given = False
        if gain > 2 * spread and means[-1] < start + 0.5 * gain and not given:
            told.append(count - 1)
            given = True
    return told


PHASES = st.lists(st.tuples(st.sampled_from([0.0, 20.0, 100.0, 499.0, -21.0]), st.integers(1, 150)), max_size=5)


def told(scores: list[float]) -> list[int]:
    """Returns the episodes at which a monitor tells of a collapse."""
    monitor = SanityMonitor(1)
    return [index for index, score in enumerate(scores) if names(monitor.episode(index, score)) == ["score_collapse"]]


class TestCollapse:
    def test_learnt_and_lost(self):
        scores = [20.0] * 100 + [200.0] * 100 + [20.0] * 100
        monitor = SanityMonitor(1)
        told = [index for index, score in enumerate(scores) if monitor.episode(index, score)]
        assert told == [250]  # the mean falls below 110

    def test_noise_is_no_gain(self):
        scores = [0.0, 100.0] * 50 + [90.0] * 60 + [0.0] * 100
        assert statistics.pstdev(scores[:100]) == 50.0
        monitor = SanityMonitor(1)
        assert [w for index, score in enumerate(scores) for w in monitor.episode(index, score)] == []

    def test_who_never_gained_has_nothing_to_lose(self):
        assert told([20.0] * 100 + [0.0] * 100) == []

    @pytest.mark.parametrize(("level", "expected"), [(149.8, []), (150.2, [233])])
    def test_a_gain_is_more_than_two_standard_deviations(self, level, expected):
        """The first returns have mean and standard deviation 50."""
        assert told([0.0, 100.0] * 50 + [level] * 100 + [0.0] * 100) == expected

    @pytest.mark.parametrize(("again", "expected"), [(74, [250]), (76, [250, 426])])
    def test_told_again_only_after_three_quarters_came_back(self, again, expected):
        """The mean comes back to 20 + 1.8 times ``again``; three quarters of the gain are 155."""
        assert told([20.0] * 100 + [200.0] * 100 + [20.0] * 100 + [200.0] * again + [20.0] * 100) == expected

    @given(phases=PHASES, noise=st.integers(0, 1_000), cut=st.floats(0, 1))
    def test_as_from_whole_lists_with_a_resume_anywhere(self, phases, noise, cut):
        scores = [level + (index * noise) % 7 for level, length in phases for index in range(length)]
        monitor, told = SanityMonitor(2), []
        for index, score in enumerate(scores):
            if index == int(cut * len(scores)):
                saved = reloaded(monitor.state_dict())
                monitor = SanityMonitor(2)
                monitor.load_state_dict(saved)
                assert monitor.state_dict() == saved
            told += [index] * len(monitor.episode(index, score))
        assert told == collapses(scores)


def test_one_warning_does_not_hide_another():
    monitor, late = SanityMonitor(1), EPISODE_PATIENCE_STEPS + 1
    assert names(monitor.report(late, 11.0, 10.0)) == ["no_episode_end", "exploding_q"]
    assert names(monitor.report(late + 1, 11.0, 10.0)) == []


def test_what_was_told_is_part_of_the_state():
    monitor = SanityMonitor(1)
    monitor.report(1, 11.0, 10.0)
    state = monitor.state_dict()
    monitor.report(2, 0.0, 10.0)  # well again, which does not reach into the state
    resumed = SanityMonitor(1)
    resumed.load_state_dict(reloaded(state))
    assert names(resumed.report(2, 11.0, 10.0)) == []
    assert names(monitor.report(3, 11.0, 10.0)) == ["exploding_q"]


def test_a_state_is_a_copy():
    monitor = SanityMonitor(1)
    state = monitor.state_dict()
    monitor.episode(5, 1.0)
    assert state == SanityMonitor(1).state_dict()
    monitor.load_state_dict(state)
    assert monitor.state_dict() == state


def test_the_limit_on_a_compressed_scale():
    assert q_limit(1.0, 0.99, math.sqrt) == pytest.approx(100.0)
