"""The audit passes what is right, and names what is wrong with an environment."""

from __future__ import annotations

from typing import Any

import pytest

from dqn_cli.agent.learner import Learner
from dqn_cli.envs.lineage import TrainingSeeds
from dqn_cli.experiments.audit.environments import EnvironmentChecks
from dqn_cli.experiments.audit.report import Check
from dqn_cli.experiments.audit.session import WRAPS
from dqn_cli.replay.samplers import UniformSampler
from dqn_cli.schema import RunOptions
from tests.envs.hostile import env_id
from tests.experiments.audits import audited, breakout, failed, verdicts
from tests.experiments.faulty import faulty_id


class TestWhatIsRight:
    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize("n_step", [1, 3, 10])
    def test_passes(self, n_step, num_envs):
        report = audited(n_step=n_step, num_envs=num_envs)
        assert failed(report) == {}
        assert set(verdicts(report).values()) == {"ok"}
        assert report.episodes > 30
        assert report.wraps > 0.3 * WRAPS

    @pytest.mark.parametrize("name", ["OneState", "LastStepReward", "OneStepEpisodes", "Bimodal", "OffsetActions"])
    def test_unusual_environments_pass(self, name):
        assert failed(audited(name)) == {}

    def test_episodes_longer_than_the_ring(self):
        report = audited("NeverEnds")
        assert failed(report) == {}
        assert 0 < report.episodes < 50  # those that the second session cuts

    def test_clipped_rewards(self):
        assert failed(audited("LastStepReward", reward_clip=0.5)) == {}

    def test_worker_processes(self):
        assert failed(audited("Bimodal", steps=300, vectorization="async")) == {}

    @pytest.mark.parametrize(
        "sampler",
        [
            {"kind": "prioritized"},
            {"kind": "prioritized", "alpha": 1.0, "beta": {"start": 0.0, "end": 0.7, "over_steps": 300}, "eps": 0.01},
            {"kind": "prioritized", "alpha": 0.0},
        ],
    )
    def test_prioritized_replay(self, sampler):
        assert set(verdicts(audited(sampler=sampler)).values()) == {"ok"}

    @pytest.mark.parametrize("stack", [1, 4])
    @pytest.mark.parametrize("lives", [True, False])
    def test_atari(self, stack, lives):
        report = breakout(1_200, stack=stack, terminal_on_life_loss=lives, sticky=0.25 if lives else 0.0)
        assert failed(report) == {}
        assert report.as_dict()["passed"]
        found = verdicts(report)
        assert found.pop("declared spaces") == "not seen"
        assert set(found.values()) == {"ok"}
        assert "declared spaces not seen: the emulator's observations" in report.text()
        assert report.text().endswith("every check holds, but for 1 not seen")

    def test_it_does_not_learn_from_the_record(self, monkeypatch):
        """The learner is only timed: the audit holds whatever it does."""
        monkeypatch.setattr(Learner, "update", lambda *_: None)
        assert failed(audited()) == {}


class TestWhatIsSeen:
    def test_a_batch_larger_than_the_ring(self):
        report = audited(batch_size=1_000)
        assert set(verdicts(report).values()) == {"ok"}
        assert report.as_dict()["wraps"] == report.wraps > 1.0
        assert f"ring of frames written {report.wraps:.1f} times over" in report.text()

    def test_a_ring_that_is_never_full(self):
        report = audited(n_step=30, num_envs=4, steps=100)
        assert failed(report) == {}
        assert report.wraps < 1.0
        assert verdicts(report)["items that live"] == "not seen"
        assert "items that live not seen: the ring of" in report.text()

    def test_two_sessions_with_seeds_of_their_own(self, monkeypatch):
        seeds = []
        next_seed = TrainingSeeds.next_seed

        def told(self: TrainingSeeds, *arguments: Any) -> int | None:
            seeds.append(next_seed(self, *arguments))
            return seeds[-1]

        monkeypatch.setattr(TrainingSeeds, "next_seed", told)
        report = audited()
        assert len(seeds) > report.episodes
        assert len(set(seeds)) == len(seeds)

    def test_every_lineage_is_played_again(self):
        report = audited()
        compared = {check.name: check.compared for check in report.checks}
        assert compared["episodes played again"] > 1.5 * report.steps  # two comparisons a step
        assert compared["declared spaces"] >= 500
        assert {c.name: c.compared for c in audited(steps=1_600).checks}["declared spaces"] >= 800

    def test_a_sampler_of_a_kind_that_nobody_knows(self, monkeypatch):
        monkeypatch.setattr("dqn_cli.experiments.audit.session.ORACLES", {})
        monkeypatch.setattr(UniformSampler, "probabilities", None)
        report = audited()
        assert failed(report) == {}
        unseen = {name for name, verdict in verdicts(report).items() if verdict == "not seen"}
        assert unseen == {"sampling chances", "importance weights", "sampling frequencies"}
        assert "does not know how a sampler of kind 'uniform' is to draw" in report.text()


@pytest.mark.parametrize(
    ("name", "checks", "words"),
    [
        ("NanReward", {"steps without errors", "finite rewards"}, "the reward is nan"),
        ("InfiniteReward", {"steps without errors", "finite rewards"}, "the reward is inf"),
        ("WrongDtype", {"declared spaces"}, "of dtype float64 is not in Box"),
        ("Outside", {"declared spaces"}, "is not in Box"),
        ("WrongShape", {"steps without errors", "declared spaces"}, "is not in Box"),
        ("Unseeded", {"two with one seed", "episodes played again"}, "observations differ after step 6"),
        ("Outlives", {"episodes played again"}, "step 6 gave reward, termination and truncation (7.0, False, False)"),
        ("Counting", {"episodes played again"}, "another first observation"),
        ("RaisesInStep", {"steps without errors"}, "ValueError: boom"),
    ],
)
def test_a_hostile_environment_fails_with_its_counter_example(name, checks, words):
    report = audited(name)
    assert set(failed(report)) == checks
    assert any(words in failure for failure in failed(report).values())
    assert not report.passed
    assert f"{len(checks)} of {len(report.checks)} checks failed" in report.text()


@pytest.mark.parametrize(
    ("fault", "steps", "checks", "words"),
    [
        ("reset outside", 400, {"declared spaces"}, "reset: ["),
        ("outside late", 1_300, {"declared spaces", "episodes played again"}, "step 600: ["),
        ("unseeded reward", 400, {"two with one seed", "episodes played again"}, "rewards or ends differ at step 0"),
        ("truncated by lifetime", 400, {"two with one seed", "episodes played again"}, "termination and truncation"),
        ("exits", 400, {"steps without errors"}, "SystemExit"),
        ("exits late", 1_300, {"steps without errors"}, "one environment alone: SystemExit"),
    ],
)
def test_a_faulty_environment(fault, steps, checks, words):
    found = failed(audited(id=faulty_id(fault), steps=steps))
    assert set(found) <= checks
    assert any(words in failure for failure in found.values())


def test_episodes_are_played_again_in_another_order():
    """Alone and in the same order, an environment would do the same again."""
    found = failed(audited(id=faulty_id("second episode"), num_envs=1))
    assert set(found) == {"episodes played again"}


def bare(fault: str, steps: int) -> EnvironmentChecks:
    checks = EnvironmentChecks(RunOptions.model_validate({"env": {"id": faulty_id(fault)}}), 0)
    checks.check_spaces(steps)
    return checks


class TestOneEnvironmentAlone:
    def test_the_first_observation_of_every_episode_is_held_to_its_space(self):
        assert "reset: [" in str(bare("reset outside", 5).spaces.failure)  # no episode ends in these
        assert "the reset after step 11: [" in str(bare("later reset outside", 20).spaces.failure)

    def test_rewards_are_held_to_be_finite(self):
        checks = bare("nan late", 50)
        assert "step 39 with action" in str(checks.finite.failure)
        assert checks.steps.failure is None


def test_a_reward_that_no_finished_episode_holds(monkeypatch):
    monkeypatch.setattr(EnvironmentChecks, "check_spaces", lambda *_: None)
    found = failed(audited(id=faulty_id("nan late")))
    assert set(found) >= {"steps without errors", "finite rewards"}
    assert "the reward is nan" in found["finite rewards"]


def test_what_an_environment_says_is_one_line_without_control_characters():
    report = audited(id=faulty_id("shouts"))
    (said,) = failed(report).values()
    assert "ValueError: one two \\x1b[31mred" in said
    assert len(said) < 2_000
    assert said.isprintable()
    assert all(line.isprintable() for line in report.text().split("\n"))
    check = Check("a check", "guards nothing")
    check.hold(False, "one\ntwo \x1b[31m" + 5_000 * "x")
    assert str(check.failure).startswith("one two \\x1b[31mxxx")
    assert len(str(check.failure)) < 2_000


def test_an_environment_whose_limit_counts_over_its_life_is_found_in_the_replayed_episodes(monkeypatch):
    """Truncation is compared step by step, also where nothing else differs."""
    monkeypatch.setattr(EnvironmentChecks, "check_twins", lambda *_: None)
    found = failed(audited(id=faulty_id("truncated by lifetime")))
    assert set(found) == {"episodes played again"}
    assert "True)" in found["episodes played again"]


def test_twins_are_compared_by_rewards_and_ends():
    checks = EnvironmentChecks(RunOptions.model_validate({"env": {"id": faulty_id("unseeded reward")}}), 0)
    checks.check_twins(3)
    assert "rewards or ends differ at step 0" in str(checks.twins.failure)


def test_twins_are_compared_at_every_reset():
    checks = EnvironmentChecks(RunOptions.model_validate({"env": {"id": env_id("Counting")}}), 0)
    checks.check_twins(30)
    assert checks.twins.failure is None
    assert checks.twins.compared == 2 * 30 + 6
