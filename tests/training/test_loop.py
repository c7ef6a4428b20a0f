"""The training loop on the real CartPole."""

from __future__ import annotations

import math
from functools import wraps
from typing import Any, ClassVar

import gymnasium
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv

from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.core.errors import BrokenEnvironmentError
from dqn_cli.hardware import resolve_hardware
from dqn_cli.plan import make_plan
from dqn_cli.replay.segments import ReplaySegments
from dqn_cli.schema import RunOptions, learning_begins
from dqn_cli.training.loop import (
    CheckpointDue,
    EpisodeFinished,
    EvaluationDue,
    Event,
    Finished,
    ReportDue,
    TrainingLoop,
)
from dqn_cli.training.pacing import Pacing
from tests.core.saving import reloaded

SHORT_EPISODES = {"wrappers": [{"name": "TimeLimit", "kwargs": {"max_episode_steps": 5}}]}  # none falls that soon


def run_options(**sections) -> RunOptions:
    """A run of 200 steps in three environments; ``sections`` go on top, key by key."""
    config: dict[str, object] = {
        "device": "cpu",
        "total_steps": 200,
        "env": {"num_envs": 3},
        "network": {"torso": {"hidden": [4]}},
        "replay": {"capacity": 500, "warmup_steps": 50},
        "learning": {"batch_size": 8, "update_every_steps": 10, "updates": 2},
        "evaluation": {"every_steps": 50},
        "checkpoint": {"every_steps": 70},
    }
    for key, value in sections.items():
        below = config.get(key)
        config[key] = {**below, **value} if isinstance(below, dict) else value
    return RunOptions.model_validate(config)


@pytest.fixture
def start():
    """Makes the objects of runs and closes their environments."""
    opened: list[Training] = []

    def make(options: RunOptions) -> Training:
        training = make_training(options, resolve_hardware(options), make_environments(options))
        opened.append(training)
        return training

    yield make
    for training in opened:
        training.environments.close()


def steps_of(events: list[Event], kind: type) -> list[int]:
    return [event.step for event in events if isinstance(event, kind)]


def pacing_of(options: RunOptions) -> Pacing:
    return Pacing(learning_begins(options), options.learning.update_every_steps, options.learning.updates)


def weights(training: Training) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in training.learner.online.parameters()]


class TestUpdates:
    @pytest.mark.parametrize(
        "sections",
        [
            {},
            {"env": {"num_envs": 1}},
            {"env": {"num_envs": 8}, "learning": {"update_every_steps": 3}},
            {"total_steps": 130, "learning": {"update_every_steps": 60, "updates": 7}},
            {"replay": {"n_step": 5}},
        ],
    )
    def test_as_many_as_the_plan_says(self, start, sections):
        options = run_options(**sections)
        training = start(options)
        list(training.loop.run())
        assert training.learner.updates == make_plan(options).updates > 0

    @pytest.mark.parametrize("num_envs", [1, 3, 8])
    @pytest.mark.parametrize("n_step", [1, 4])
    @pytest.mark.parametrize("env", [{}, SHORT_EPISODES])
    def test_without_warm_up_no_batch_is_drawn_from_an_empty_replay(self, start, num_envs, n_step, env):
        options = run_options(
            total_steps=num_envs * (n_step + 4),
            env={"num_envs": num_envs, **env},
            replay={"warmup_steps": 0, "n_step": n_step},
            learning={"update_every_steps": 1, "updates": 1},
        )
        training = start(options)
        list(training.loop.run())
        assert training.learner.updates == 4 * num_envs

    def test_updates_overlap_with_the_step_and_actions_are_chosen_before_them(self, start, monkeypatch):
        options = run_options()
        training, pacing = start(options), pacing_of(options)
        log: list[str] = []
        acted: list[tuple[int, int]] = []  # step and updates behind the parameters that acted

        def recorded(owner: object, name: str) -> None:
            method = getattr(owner, name)

            def call(*args):
                log.extend([name] * (args[2] if name == "update" else 1))  # several updates may be one call
                if name == "act":
                    acted.append((args[1], training.learner.updates))
                return method(*args)

            monkeypatch.setattr(owner, name, call)

        recorded(training.actor, "act")
        recorded(training.environments, "send")
        recorded(training.environments, "recv")
        recorded(training.learner, "update")
        list(training.loop.run())
        assert acted == [(step, pacing.updates_until(max(0, step - 3))) for step in range(0, 201, 3)]
        iterations = " ".join(log).split("act ")[1:]
        bursts = [pacing.updates_until(step) - pacing.updates_until(max(0, step - 3)) for step in range(0, 201, 3)]
        expected = ["send " + "update " * burst + "recv" for burst in bursts]
        # Nothing is left to overlap the last updates with.
        expected[-1] += " update" * (pacing.updates_until(201) - pacing.updates_until(198))
        assert [iteration.strip() for iteration in iterations] == expected

    def test_the_step_of_an_update_is_that_of_the_loop(self, start, monkeypatch):
        options = run_options(total_steps=201)
        training, pacing = start(options), pacing_of(options)
        update, seen = training.learner.update, []

        def recorded(batch, step, count):
            seen.extend([step] * count)
            return update(batch, step, count)

        monkeypatch.setattr(training.learner, "update", recorded)
        list(training.loop.run())
        due = {step: pacing.updates_until(step) - pacing.updates_until(max(0, step - 3)) for step in range(0, 202, 3)}
        assert seen == [step for step, count in due.items() for _ in range(count)]

    def test_a_run_is_its_config(self, start):
        runs = [start(run_options(seed=seed)) for seed in (0, 0, 1)]
        events = [list(training.loop.run()) for training in runs]
        assert events[0] == events[1]
        assert events[0] != events[2]
        first, second, other = map(weights, runs)
        assert all(map(torch.equal, first, second))
        assert not any(map(torch.equal, first, other))


class TestEpisodes:
    def test_scores_are_those_of_the_game(self, start):
        training = start(run_options())
        finished = [event for event in training.loop.run() if isinstance(event, EpisodeFinished)]
        assert len(finished) > 5
        game = gymnasium.make("CartPole-v1")
        for event in finished:
            episode = event.episode
            game.reset(seed=episode.seed)
            rewards, over = [], False
            for action in episode.actions:
                assert not over
                _, reward, terminated, truncated, _ = game.step(action)
                rewards.append(float(reward))
                over = terminated or truncated
            assert over
            assert (episode.score, episode.length) == (sum(rewards), len(rewards))
        game.close()

    def test_counts_returns_and_steps(self, start):
        training = start(run_options())
        finished = []
        for event in training.loop.run():
            assert event.step == training.loop.step
            if isinstance(event, EpisodeFinished):
                finished.append(event)
                assert training.loop.episodes == len(finished)
                assert training.loop.returns[-1] == event.episode.score
        assert list(training.loop.returns) == [event.episode.score for event in finished]
        for index in range(3):
            # An episode ends at the step that the lengths of those before it add up to.
            own = [event for event in finished if event.episode.env_index == index]
            lengths = [event.episode.length for event in own]
            assert [event.step for event in own] == [3 * sum(lengths[: k + 1]) for k in range(len(own))]

    def test_only_the_latest_returns_are_kept(self, start):
        training = start(run_options(total_steps=1_200, env={"num_envs": 8, **SHORT_EPISODES}))
        list(training.loop.run())
        assert training.loop.episodes == 1_200 // 5
        assert list(training.loop.returns) == [5.0] * 100


class TestEvents:
    def test_they_come_when_multiples_are_passed(self, start):
        events = list(start(run_options()).loop.run())
        assert steps_of(events, EvaluationDue) == [51, 102, 150, 201]
        assert steps_of(events, CheckpointDue) == [0, 72, 141]
        assert steps_of(events, ReportDue) == list(range(3, 202, 3))
        assert steps_of(events, Finished) == [201]
        assert events[-1] == Finished(201, "all steps done")

    def test_each_step_tells_episodes_first_and_saves_last(self, start):
        sections = {"evaluation": {"every_steps": 15}, "checkpoint": {"every_steps": 15}, "env": SHORT_EPISODES}
        events = list(start(run_options(**sections)).loop.run())
        at_15 = [type(event) for event in events if event.step == 15]
        assert at_15 == [EpisodeFinished] * 3 + [ReportDue, EvaluationDue, CheckpointDue]

    def test_no_evaluations(self, start):
        events = list(start(run_options(evaluation={"every_steps": None})).loop.run())
        assert steps_of(events, EvaluationDue) == []

    def test_the_last_events_see_the_finished_network(self, start):
        options = run_options(
            total_steps=150, evaluation={"every_steps": 150}, checkpoint={"every_steps": 150}, learning={"updates": 5}
        )
        training = start(options)
        updates = {type(event): training.learner.updates for event in training.loop.run() if event.step == 150}
        assert updates == dict.fromkeys(
            (ReportDue, EvaluationDue, CheckpointDue, Finished), pacing_of(options).updates_until(150)
        )


class TestGoal:
    def test_exactly_reached(self, start):
        stop = {"return_mean": 5.0, "window": 4}
        events = list(start(run_options(stop=stop, env={"num_envs": 1, **SHORT_EPISODES})).loop.run())
        assert events[-1] == Finished(20, "goal reached")

    def test_just_missed(self, start):
        stop = {"return_mean": 5.01, "window": 4}
        events = list(start(run_options(stop=stop, env={"num_envs": 1, **SHORT_EPISODES})).loop.run())
        assert events[-1] == Finished(200, "all steps done")

    def test_only_the_latest_episodes_count(self, start):
        goal, window = 25.0, 2
        options = run_options(total_steps=2_000, stop={"return_mean": goal, "window": window}, env={"num_envs": 1})
        training = start(options)
        old = [0.0] * 50
        training.loop.returns.extend(old)
        training.loop.episodes = len(old)
        events = list(training.loop.run())
        returns, expected = list(old), math.inf
        for event in events:
            if isinstance(event, EpisodeFinished):
                returns.append(event.episode.score)
                if sum(returns[-window:]) / window >= goal:
                    expected = min(expected, event.step)
        assert events[-1] == Finished(int(expected), "goal reached")
        assert sum(returns) / len(returns) < goal

    def test_a_window_that_is_not_full_reaches_nothing(self, start):
        # Games with negative scores: a sum of few of them, divided by the window, would look good.
        stop = {"return_mean": -20.0, "window": 50}
        training = start(run_options(stop=stop, env={"num_envs": 1, **SHORT_EPISODES}))
        training.loop.returns.append(-1000.0)
        assert list(training.loop.run())[-1] == Finished(200, "all steps done")

    def test_a_window_larger_than_what_is_kept_otherwise(self, start):
        options = run_options(
            total_steps=1_000, stop={"return_mean": 5.0, "window": 150}, env={"num_envs": 1, **SHORT_EPISODES}
        )
        events = list(start(options).loop.run())
        assert events[-1] == Finished(750, "goal reached")


class TestUpdatesAtOnce:
    """Bursts of many updates: what is one call, and that nobody can tell from what is learnt."""

    LEARNING: ClassVar[dict[str, Any]] = {
        "update_every_steps": 30,
        "updates": 21,
        "target": {"kind": "periodic", "every_updates": 10},
    }
    BURSTS: ClassVar[dict[str, Any]] = {"replay": {"warmup_steps": 40}, "learning": LEARNING}

    def test_calls_end_where_the_target_network_moves_and_with_the_burst(self, start, monkeypatch):
        training = start(run_options(**self.BURSTS, total_steps=102))
        update, counts = training.learner.update, []

        def recorded(batch, step, count):
            counts.append(count)
            assert len(batch.key) == 8 * count
            return update(batch, step, count)

        monkeypatch.setattr(training.learner, "update", recorded)
        list(training.loop.run())
        assert counts == [8, 2, 8, 2, 1, 8, 1, 8, 2, 2]  # 21 updates: 10 + 10 + 1; the next 21: 9 + 10 + 2

    @pytest.mark.parametrize("bootstrap", ["greedy", "double", "munchausen", "advantage"])
    @pytest.mark.parametrize(
        "target",
        [{"kind": "periodic", "every_updates": 10}, {"kind": "periodic", "every_steps": 10}, {"kind": "polyak"}],
    )
    def test_the_same_is_learnt_one_by_one(self, start, monkeypatch, bootstrap, target):
        learning = {**self.LEARNING, "target": target, "bootstrap": {"kind": bootstrap}}
        options = run_options(**{**self.BURSTS, "learning": learning})
        together, apart = start(options), start(options)
        monkeypatch.setattr(apart.learner, "at_once", lambda: 1)
        for training in (together, apart):
            list(training.loop.run())
        assert together.learner.updates == apart.learner.updates > 60
        for a, b in zip(weights(together), weights(apart), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
        assert together.learner.report() == pytest.approx(apart.learner.report(), rel=1e-4)

    def test_draws_that_depend_on_priorities_are_made_one_by_one(self, start):
        assert start(run_options(replay={"sampler": {"kind": "prioritized"}})).replay.at_once(8) == 1
        assert start(run_options()).replay.at_once(8) > 8

    def test_a_stop_in_a_burst_leaves_its_rest_to_who_goes_on(self, start, monkeypatch, tmp_path):
        whole, first, second = (start(run_options(**self.BURSTS)) for _ in range(3))
        list(whole.loop.run())
        update, calls = first.learner.update, []

        def stopped(*args):
            calls.append(args)
            first.loop.stop_requested = len(calls) == 3
            return update(*args)

        monkeypatch.setattr(first.learner, "update", stopped)
        list(first.loop.run())
        assert first.learner.updates == 18
        state = reloaded(state_of(first))
        ReplaySegments(tmp_path).load(second.replay, ReplaySegments(tmp_path).save(first.replay))
        take_over(second, state)
        list(second.loop.run())
        assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))

    @pytest.mark.parametrize("goal", [None, {"return_mean": 1.0, "window": 1}])
    def test_a_stop_in_the_last_burst_leaves_its_rest_and_the_last_events(self, start, monkeypatch, tmp_path, goal):
        options = run_options(**self.BURSTS, total_steps=102, evaluation={"every_steps": 1}, stop=goal)
        if goal:
            monkeypatch.setattr(TrainingLoop, "_goal_reached", lambda loop: loop.step >= options.total_steps)
        whole, first, second = (start(options) for _ in range(3))
        events = list(whole.loop.run())
        update = first.learner.update

        def stopped(*args):
            first.loop.stop_requested = first.loop.step >= options.total_steps
            return update(*args)

        monkeypatch.setattr(first.learner, "update", stopped)
        before = list(first.loop.run())
        assert first.learner.updates < whole.learner.updates
        assert before[-1] == Finished(whole.loop.step, "stopped")
        state = reloaded(state_of(first))
        ReplaySegments(tmp_path).load(second.replay, ReplaySegments(tmp_path).save(first.replay))
        take_over(second, state)
        assert before[:-1] + list(second.loop.run()) == events
        assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


class TestStop:
    def test_after_the_step_in_hand(self, start, monkeypatch):
        options = run_options()
        training = start(options)
        send, sent = training.environments.send, []

        def interrupted(actions):
            send(actions)
            sent.append(actions)
            training.loop.stop_requested = len(sent) == 40

        monkeypatch.setattr(training.environments, "send", interrupted)
        events = list(training.loop.run())
        assert events[-1] == Finished(120, "stopped")
        assert (len(sent), training.loop.step) == (40, 120)
        # The updates of the last step are left to whoever goes on.
        assert training.learner.updates == pacing_of(options).updates_until(117)

    def test_asked_by_a_listener(self, start):
        training = start(run_options())
        events = []
        for event in training.loop.run():
            events.append(event)
            training.loop.stop_requested |= isinstance(event, ReportDue) and event.step >= 30
        assert events[-1] == Finished(30, "stopped")


def test_state(start):
    training = start(run_options(env=SHORT_EPISODES))
    list(training.loop.run())
    state = training.loop.state_dict()
    restored = start(run_options(env=SHORT_EPISODES)).loop
    restored.load_state_dict(reloaded(state))
    assert restored.state_dict() == state == {"step": 201, "episodes": 39, "returns": [5.0] * 39, "pending": None}
    training.loop.returns.append(1.0)
    assert len(state["returns"]) == 39


def state_of(training: Training) -> dict[str, Any]:
    return {
        "learner": training.learner.state_dict(),
        "explorer": training.actor.explorer.state_dict(),
        "replay": training.replay.state_dict(),
        "environments": training.environments.state_dict(),
        "loop": training.loop.state_dict(),
    }


def take_over(training: Training, state: dict[str, Any]) -> None:
    """Makes fresh objects, whose replay has its frames, what the saved ones were; lineages are played again."""
    training.learner.load_state_dict(state["learner"])
    training.actor.explorer.load_state_dict(state["explorer"])
    training.replay.load_state_dict(state["replay"])
    lineages = state["environments"]["lineages"]
    backend: Any = training.environments._backend
    for index, environment in enumerate(backend._stepper._environments):
        environment.reset(seed=lineages["seeds"][index])
        for action in lineages["actions"][index].tolist():
            environment.step(action)
    training.environments.load_state_dict(state["environments"])
    training.loop.load_state_dict(state["loop"])


def same(one: Any, other: Any) -> bool:
    """Returns whether two states are the same bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("network", [{}, {"noisy": {"sigma": 0.5}}])
@pytest.mark.parametrize("call", ["step", "reset"])
def test_who_goes_on_after_a_failure_does_what_had_been_done_without(start, monkeypatch, tmp_path, call, network):
    """Also the random numbers are the same: the actions of the step that failed were chosen already."""
    options = run_options(network=network, exploration={"start": 0.5, "end": 0.1, "decay_steps": 500})
    straight, broken, healthy = start(options), start(options), start(options)
    expected = list(straight.loop.run())
    method, calls = getattr(CartPoleEnv, call), [0]

    @wraps(method)
    def failing(self: Any, *arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == {"step": 3 * 40 + 2, "reset": 3 + 5}[call]:
            raise ValueError("boom")
        return method(self, *arguments, **named)

    events: list[Event] = []
    with monkeypatch.context() as patch:
        patch.setattr(CartPoleEnv, call, failing)
        with pytest.raises(BrokenEnvironmentError):
            events.extend(broken.loop.run())
    state = reloaded(state_of(broken))
    assert state["loop"]["pending"] is not None
    assert 60 < state["loop"]["step"] < 200

    segments = ReplaySegments(tmp_path).save(broken.replay)
    ReplaySegments(tmp_path).load(healthy.replay, segments)
    take_over(healthy, state)
    assert same(state_of(healthy), state)
    observation = state["environments"]["observation"].numpy()
    monkeypatch.setattr(healthy.environments, "reset", lambda: observation)
    monkeypatch.setattr(healthy.replay, "begin", lambda _: None)
    assert events + list(healthy.loop.run()) == expected
    assert same(state_of(healthy), state_of(straight))
