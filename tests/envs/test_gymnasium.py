"""Gymnasium environments: finding, making, wrapping and stepping them, here and in worker processes."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from pydantic import ValidationError

from dqn_cli.core.errors import BrokenEnvironmentError, RunError, UsageError
from dqn_cli.envs.gymnasium import GymnasiumBackend, GymnasiumOptions
from dqn_cli.envs.gymnasium_make import environment_factory
from dqn_cli.envs.lineage import TrainingSeeds
from dqn_cli.envs.steppers import AsyncStepper
from dqn_cli.envs.vector import EpisodicVector
from tests.envs.hostile import OBSERVATION_SPACES, env_id

ALL = np.ones(3, dtype=np.bool_)


def usage_error(*args, **kwargs) -> str:
    with pytest.raises(UsageError) as refused:
        GymnasiumBackend(*args, **kwargs)
    message = str(refused.value)
    assert "\n" not in message
    return message


class TestOptions:
    def test_defaults(self):
        options = GymnasiumOptions()
        assert (options.kind, options.id, options.num_envs) == ("gymnasium", "CartPole-v1", 4)
        assert (options.kwargs, options.wrappers, options.vectorization) == ({}, (), "sync")
        assert all(field.description for field in GymnasiumOptions.model_fields.values())

    def test_a_wrapper_is_a_name_or_a_name_with_arguments(self):
        options = GymnasiumOptions.model_validate(
            {"wrappers": ["ClipReward", {"name": "TimeLimit", "kwargs": {"max_episode_steps": 9}}]}
        )
        assert [(wrapper.name, wrapper.kwargs) for wrapper in options.wrappers] == [
            ("ClipReward", {}),
            ("TimeLimit", {"max_episode_steps": 9}),
        ]

    @pytest.mark.parametrize("wrong", [{"num_envs": 0}, {"vectorization": "fast"}, {"wrappers": [3]}, {"x": 1}])
    def test_wrong_values_are_refused(self, wrong):
        with pytest.raises(ValidationError):
            GymnasiumOptions.model_validate(wrong)


class TestErrors:
    def test_unknown_id(self):
        assert "Did you mean 'CartPole-v1'" in usage_error("CartPol-v1", 1)

    def test_unknown_version_and_missing_version(self):
        assert "'CartPole-v1'" in usage_error("CartPole-v9", 1)
        assert "'CartPole-v1'" in usage_error("CartPole", 1)

    @pytest.mark.parametrize("wrong", ["", "no such thing", "Nope/CartPole-v1"])
    def test_impossible_ids(self, wrong):
        assert f"'{wrong}'" in usage_error(wrong, 1)

    def test_missing_module(self):
        message = usage_error("no_such_module:Some-v0", 1)
        assert "'no_such_module'" in message
        assert "PYTHONPATH" in message

    def test_id_that_its_module_does_not_register(self):
        assert "hostile/Counting-v0" in usage_error(env_id("Countin"), 1)

    @pytest.mark.skipif("Box2D" in sys.modules, reason="needs Box2D to be absent")
    @pytest.mark.parametrize("name", ["LunarLander-v3", "BipedalWalker-v3", "CarRacing-v3"])
    def test_missing_extra(self, name, monkeypatch):
        monkeypatch.setitem(sys.modules, "Box2D", None)
        assert "pip install 'dqn_cli[box2d]'" in usage_error(name, 1)

    def test_missing_dependency_of_another_kind(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "mujoco", None)
        assert "gymnasium[mujoco]" in usage_error("Hopper-v5", 1)

    def test_unknown_kwargs(self):
        message = usage_error("CartPole-v1", 1, {"suton_barto_reward": True})
        assert "takes no argument 'suton_barto_reward'. Did you mean 'sutton_barto_reward'?" in message

    def test_kwargs_with_wrong_values(self):
        message = usage_error("FrozenLake-v1", 1, {"map_name": "9x9"})
        assert "map_name" in message
        assert "9x9" in message

    @pytest.mark.parametrize(
        ("name", "game"),
        [
            ("ALE/Pong-v5", "Pong"),
            ("ale_py:ALE/MsPacman-v5", "MsPacman"),
            ("PongNoFrameskip-v4", "Pong"),
            ("PongDeterministic-v4", "Pong"),
        ],
    )
    def test_atari_games_have_a_kind_of_their_own(self, name, game):
        assert f"env: {{kind: atari, game: {game}}}" in usage_error(name, 1)

    def test_legacy_atari_id_that_the_emulator_registers(self):
        import ale_py  # noqa: F401

        assert "game: Pong}" in usage_error("Pong-v4", 1)

    @pytest.mark.parametrize("name", ["DictObs", "TupleObs", "TextObs", "SequenceObs"])
    def test_observations_without_an_array_form(self, name):
        assert "env.wrappers" in usage_error(env_id(name), 1)

    @pytest.mark.parametrize("name", ["Continuous", "MultiDiscreteActions", "TooManyActions"])
    def test_actions_that_are_not_discrete(self, name):
        assert "actions" in usage_error(env_id(name), 1)


class TestWrappers:
    def test_wrappers_apply_from_the_inside_out(self):
        backend = GymnasiumBackend(
            env_id("NeverEnds"),
            3,
            wrappers=[
                ("TimeLimit", {"max_episode_steps": 2}),
                ("gymnasium.wrappers:TimeAwareObservation", {}),
            ],
        )
        assert backend.spec.observation.shape == (2,)
        backend.reset(ALL, [1, 2, 3])
        for expected in (False, True):
            backend.send(np.zeros(3, np.int64))
            step = backend.recv()
            assert step.truncated.tolist() == [expected] * 3
        assert not step.terminated.any()

    def test_flatten_makes_dictionaries_usable(self):
        backend = GymnasiumBackend(env_id("DictObs"), 1, wrappers=[("FlattenObservation", {})])
        assert backend.spec.observation.shape == (5,)

    @pytest.mark.parametrize(
        "name",
        [
            "NormalizeObservation",
            "NormalizeReward",
            "gymnasium.wrappers.vector:NormalizeObservation",
            "gymnasium.wrappers.vector:NormalizeReward",
            "tests.envs.hostile:RunningMean",
        ],
    )
    def test_statistics_that_outlive_an_episode_are_refused_with_the_reason(self, name):
        assert "statistics outlive an episode" in usage_error("CartPole-v1", 1, wrappers=[(name, {})])

    def test_hidden_resets_are_refused(self):
        assert "hidden reset" in usage_error("CartPole-v1", 1, wrappers=[("Autoreset", {})])

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("TimeLimt", "Did you mean 'TimeLimit'"),
            ("vector", "has no wrapper 'vector'"),
            ("no_such_module:Wrapper", "module 'no_such_module'"),
            ("gymnasium.wrappers.vector:ClipReward", "a vector of environments"),
            ("tests.envs.hostile:NotAnEnvironment", "not a class derived from"),
            ("TimeLimit", "max_episode_steps"),
        ],
    )
    def test_wrong_wrappers(self, name, reason):
        assert reason in usage_error("CartPole-v1", 1, wrappers=[(name, {})])


@pytest.mark.parametrize("name", sorted(set(OBSERVATION_SPACES) - {"DictObs", "TupleObs", "TextObs", "SequenceObs"}))
def test_every_supported_space_is_stepped(name):
    backend = GymnasiumBackend(env_id(name), 3)
    spec = backend.spec.observation
    expected = ((3, 1, *spec.shape), spec.dtype)
    first = backend.reset(ALL, [1, 2, 3]).observation
    assert (first.shape, first.dtype) == expected
    backend.send(np.zeros(3, np.int64))
    observation = backend.recv().observation
    assert (observation.shape, observation.dtype) == expected
    backend.close()
    backend.close()


def test_actions_start_where_the_space_starts():
    backend = GymnasiumBackend(env_id("OffsetActions"), 3)
    assert backend.spec.num_actions == 3
    backend.reset(ALL, [1, 2, 3])
    backend.send(np.array([0, 1, 2]))
    assert backend.recv().reward.tolist() == [-1.0, 0.0, 1.0]


def test_sync_steps_as_the_environment_itself():
    backend, twin = GymnasiumBackend("CartPole-v1", 1), gymnasium.make("CartPole-v1")
    observation = backend.reset(ALL[:1], [42]).observation
    expected, _ = twin.reset(seed=42)
    for action in np.random.default_rng(0).integers(0, 2, 10):
        np.testing.assert_array_equal(observation[0, 0], expected)
        backend.send(np.array([action]))
        step = backend.recv()
        observation = step.observation
        expected, reward, terminated, truncated, _ = twin.step(action)
        assert (step.reward[0], step.terminated[0], step.truncated[0]) == (reward, terminated, truncated)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_two_partial_resets_in_a_row_reset_what_they_say(vectorization):
    backend = GymnasiumBackend(env_id("Counting"), 3, vectorization=vectorization)
    try:
        backend.reset(ALL, [1, 2, 3])
        backend.send(np.zeros(3, np.int64))
        backend.recv()
        mask = np.array([True, False, False])
        for episode in (1, 2):
            observation = backend.reset(mask, [5, None, None]).observation
            assert observation[:, 0].tolist() == [[episode, 0], [0, 1], [0, 1]]
        assert mask.tolist() == [True, False, False]
    finally:
        backend.close()


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_what_was_returned_is_never_written_again(vectorization):
    backend = GymnasiumBackend(env_id("Counting"), 3, vectorization=vectorization)
    try:
        returned = [backend.reset(ALL, [1, 2, 3]).observation]
        for _ in range(3):
            backend.send(np.zeros(3, np.int64))
            returned.append(backend.recv().observation)
        returned.append(backend.reset(np.array([False, True, False]), [None, 3, None]).observation)
        assert [observation[0, 0, 1] for observation in returned] == [0, 1, 2, 3, 3]
        assert [observation[1, 0, 1] for observation in returned] == [0, 1, 2, 3, 0]
    finally:
        backend.close()


def test_sync_and_async_give_the_same_trajectories():
    trajectories = []
    for vectorization in ("sync", "async"):
        environments = EpisodicVector(
            GymnasiumBackend(
                "CartPole-v1",
                3,
                wrappers=[("TimeLimit", {"max_episode_steps": 25})],
                vectorization=vectorization,
            ),
            TrainingSeeds(0, 0),
            max_episode_frames=None,
            terminal_on_life_loss=False,
        )
        rng = np.random.default_rng(0)
        steps = [environments.reset().tolist()]
        for _ in range(80):
            environments.send(rng.integers(0, 2, 3))
            result = environments.recv()
            steps.append(
                [
                    array.tolist()
                    for array in (
                        result.observation,
                        result.successor,
                        result.reward,
                        result.terminal,
                        result.truncated,
                    )
                ]
                + list(result.episodes)
            )
        environments.close()
        environments.close()
        trajectories.append(steps)
    assert trajectories[0] == trajectories[1]


def test_exception_in_a_step_names_the_environment():
    backend = GymnasiumBackend(env_id("RaisesInStep"), 2, {"after": 1})
    backend.reset(ALL[:2], [1, 2])
    backend.send(np.zeros(2, np.int64))
    with pytest.raises(RunError, match=r"environment 0 \('.*RaisesInStep-v0'\) failed in step.*ValueError: boom"):
        backend.recv()
    backend.close()


def test_exception_in_a_worker_is_reported_and_the_workers_end():
    backend = GymnasiumBackend(env_id("RaisesInStep"), 2, {"after": 1}, vectorization="async")
    backend.reset(ALL[:2], [1, 2])
    backend.send(np.zeros(2, np.int64))
    with pytest.raises(RunError, match=r"environment 0 \('.*RaisesInStep-v0'\) failed in a worker process: .* boom"):
        backend.recv()
    backend.close()
    backend.close()


def test_death_of_a_worker_is_reported_and_does_not_hang():
    backend = GymnasiumBackend("CartPole-v1", 2, vectorization="async")
    backend.reset(ALL[:2], [1, 2])
    victim = multiprocessing.active_children()[0]
    victim.kill()
    victim.join()
    with pytest.raises(RunError, match=r"the worker process of environment \d \('CartPole-v1'\) died"):
        EpisodicVector(backend, TrainingSeeds(0, 0), None, False).reset()
    backend.close()
    assert multiprocessing.active_children() == []


SIGNALLED = """
if __name__ == "__main__":
    import os, signal, sys
    import numpy as np
    from dqn_cli.envs.gymnasium import GymnasiumBackend

    backend = GymnasiumBackend("CartPole-v1", 2, vectorization="async")
    backend.reset(np.ones(2, bool), [1, 2])
    received = []
    for name in sys.argv[2:]:
        signal.signal(getattr(signal, name), lambda number, frame: received.append(number))
        os.killpg(os.getpgrp(), getattr(signal, name))
    for action in (0, 1, 0):
        backend.send(np.array([action, action]))
        step = backend.recv()
    assert len(received) == len(sys.argv[2:]), received
    if sys.argv[1] == "in flight":
        backend.send(np.array([0, 0]))
    if sys.argv[1] != "unclosed":
        backend.close()
        backend.close()
    print("survived", step.observation.shape)
"""


@pytest.mark.parametrize(
    ("ending", "signals"), [("in flight", ["SIGINT", "SIGTERM", "SIGHUP"]), ("unclosed", ["SIGINT"])]
)
def test_workers_survive_signals_to_the_process_group_and_end_with_it(ending, signals, tmp_path):
    script = tmp_path / "signalled.py"
    script.write_text(SIGNALLED)
    done = subprocess.run(
        [sys.executable, script, ending, *signals],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout) == (0, "survived (2, 1, 4)\n")
    if "SIGHUP" not in signals:  # which also ends Python's own resource tracker, and that makes it complain
        assert done.stderr == ""


def test_this_process_keeps_its_signal_handlers():
    for vectorization in ("sync", "async"):
        GymnasiumBackend("CartPole-v1", 1, vectorization=vectorization).close()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        assert signal.getsignal(number) is not signal.SIG_IGN


@pytest.mark.parametrize("name", ["subprocess:call", "os:system", "builtins:print", "gymnasium:make"])
def test_nothing_but_wrappers_is_called(name):
    with pytest.raises(UsageError, match=r"not a class derived from gymnasium\.Wrapper"):
        GymnasiumBackend("CartPole-v1", 1, wrappers=[(name, {})])


def test_a_worker_that_hangs_is_named_and_ended():
    factory = environment_factory(env_id("Sleeps"), {}, ())
    stepper = AsyncStepper(factory, 2, "Sleeps", patience=0.5)
    try:
        stepper.reset(np.ones(2, np.bool_), [0, 1])
        stepper.send(np.array([0, 1]))
        with pytest.raises(
            BrokenEnvironmentError, match=r"environment 1 \('Sleeps'\) did not answer for 0.5 s"
        ) as error:
            stepper.recv()
        assert (error.value.env_index, error.value.in_step) == (1, True)
    finally:
        stepper.close()
    assert not any(process.is_alive() for process in stepper._vector.processes)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_failure_shows_no_traceback(vectorization, capfd):
    backend = GymnasiumBackend(env_id("RaisesInStep"), 2, vectorization=vectorization)
    backend.reset(np.ones(2, np.bool_), [0, 1])
    with pytest.raises(BrokenEnvironmentError, match="ValueError: boom") as error:
        steps(backend, 5)
    backend.close()
    assert error.value.env_index == 0
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_observation_that_is_no_number(value):
    backend = GymnasiumBackend(env_id("LastStepReward"), 3)
    backend.reset(np.ones(3, np.bool_), [0, 1, 2])
    step = backend._stepper.recv

    def poisoned() -> Any:
        raw = step()
        raw.observation[2] = value
        return raw

    backend._stepper.recv = poisoned  # type: ignore[method-assign]
    backend.send(np.zeros(3, np.int64))
    with pytest.raises(BrokenEnvironmentError, match=r"environment 2 .*no finite numbers") as error:
        backend.recv()
    backend.close()
    assert (error.value.env_index, error.value.in_step) == (2, True)


def test_an_observation_of_another_shape_is_not_stretched():
    backend = GymnasiumBackend(env_id("WrongShape"), 1)
    backend.reset(np.ones(1, np.bool_), [0])
    with pytest.raises(BrokenEnvironmentError, match=r"the observation has shape \(1,\), its space \(3,\)"):
        steps(backend, 7)
    backend.close()


def steps(backend: GymnasiumBackend, count: int) -> None:
    for _ in range(count):
        backend.send(np.zeros(backend.spec.num_envs, np.int64))
        backend.recv()
