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
from dqn_cli.core.rng import derive_seed
from dqn_cli.envs.contract import StepResult
from dqn_cli.envs.guard import GuardedFactory
from dqn_cli.envs.gymnasium import GymnasiumBackend, GymnasiumOptions
from dqn_cli.envs.gymnasium_make import environment_factory
from dqn_cli.envs.lineage import TrainingSeeds
from dqn_cli.envs.steppers import AsyncStepper
from dqn_cli.envs.vector import EpisodicVector
from tests.envs.hostile import CLOSED, MADE, OBSERVATION_SPACES, Faulty, env_id

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

    def test_kwargs_that_are_long_are_not_told_whole(self):
        message = usage_error("FrozenLake-v1", 1, {"map_name": "x" * 5_000})
        assert "map_name" in message
        assert len(message) < 1_000

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


FAILURES: list[tuple[str, dict[str, Any], str]] = [
    ("step 4", {"fault": "raise"}, "ValueError: boom"),
    ("step 4", {"fault": "local class"}, "LocalError: boom"),  # which no pipe takes
    ("step 4", {"fault": "exit"}, "SystemExit: 0"),
    ("step 4", {"value": [0.5]}, "the observation has shape (1,), its space (2,)"),
    ("step 4", {"space": "codes", "value": 4}, "the observation 4 is not in Discrete(3, start=1)"),
    ("step 4", {"space": "doubles", "value": [1e300, 0.0]}, "the observation holds values that are no finite numbers"),
    ("step 4", {"value": [np.nan, 0.0]}, "the observation holds values that are no finite numbers in float32"),
    ("step 4", {"value": [0.0, -np.inf]}, "the observation holds values that are no finite numbers in float32"),
    ("step 4", {"reward": "1.5"}, "the reward is '1.5', no real number"),
    ("reset 0", {"fault": "raise"}, "ValueError: boom"),
    ("reset 0", {"value": [np.nan, 0.0]}, "the observation holds values that are no finite numbers in float32"),
    ("reset 2", {"fault": "many words"}, "ValueError: 100% \\x1b[31mred\\x1b[0m and more"),
    ("reset 2", {"fault": "two words"}, "TwoWordsError: ('one', 'two')"),
    ("reset 2", {"fault": "exit"}, "SystemExit: 0"),
    ("reset 2", {"value": [np.nan, 0.0]}, "the observation holds values that are no finite numbers in float32"),
    ("reset 2", {"value": [0.5]}, "the observation has shape (1,), its space (2,)"),
    ("reset 2", {"space": "bytes", "value": [300, 0]}, "the observation [300, 0] does not fit the uint8 of its space"),
]


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize(("when", "kwargs", "words"), FAILURES)
def test_a_failure_says_what_failed_where(vectorization, when, kwargs, words, capfd):
    """The same in both, with no other word on the terminal."""
    backend = GymnasiumBackend(env_id("Faulty"), 2, {"when": when, **kwargs}, vectorization=vectorization)
    environments = EpisodicVector(backend, TrainingSeeds(0, 0), None, False)
    try:
        with pytest.raises(BrokenEnvironmentError) as error:
            played(environments, 20)
    finally:
        backend.close()
    assert capfd.readouterr() == ("", "")
    message, index, episode = str(error.value), error.value.env_index, error.value.episode
    assert index is not None
    kind, number = when.split()
    seed = derive_seed(0, "environment", index, 1 if kind == "step" else int(number))
    place = "step" if kind == "step" else f"reset with seed {seed}"
    assert message.startswith(f"environment {index} ('{env_id('Faulty')}') failed in {place}: {words}")
    assert "\n" not in message
    assert error.value.whole is (when != "reset 0")
    assert episode is not None
    assert (episode["env"], episode["seed"]) == (index, seed)
    if kind == "step":
        assert message.endswith(f" (episode 1, step 1, action 0, lineage seed {seed})")
        assert episode["actions"] == [0, 0]
    else:
        assert f" (before episode {number}" in message
        assert episode["actions"] == []


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("info", ["varying", "none"])
def test_infos_are_nobody_s_affair(vectorization, info):
    backend = GymnasiumBackend(env_id("Faulty"), 2, {"info": info}, vectorization=vectorization)
    result = played(EpisodicVector(backend, TrainingSeeds(0, 0), None, False), 7)
    assert result.reward.tolist() == [1.0] * 2
    backend.close()


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ("die", "the worker process of {} died in reset with seed {} with exit code 7"),
        ("hang", "{} did not answer for 1 s in reset with seed {}: it was ended"),
    ],
)
def test_a_worker_that_dies_or_hangs_in_a_later_reset(fault, how):
    backend = GymnasiumBackend(env_id("Faulty"), 2, {"fault": fault, "when": "reset 1"}, vectorization="async")
    backend._stepper._patience = 1.0  # type: ignore[attr-defined]
    environments = EpisodicVector(backend, TrainingSeeds(0, 0), None, False)
    with pytest.raises(BrokenEnvironmentError) as error:
        played(environments, 5)
    backend.close()
    index = error.value.env_index
    assert index is not None
    seed = derive_seed(0, "environment", index, 1)
    assert str(error.value).startswith(how.format(f"environment {index} ('{env_id('Faulty')}')", seed))
    assert " (before episode 1, after episode 0, step 2, action 0, lineage seed " in str(error.value)
    assert error.value.whole
    environments.state_dict()


def test_an_environment_that_cannot_be_made_in_its_worker():
    Faulty()  # whatever number this process has arrived at, the workers begin with 0
    backend = GymnasiumBackend(env_id("Faulty"), 2, {"fault": "raise", "when": "made 0"}, vectorization="async")
    with pytest.raises(
        BrokenEnvironmentError, match=r"failed in reset with seed 5: .*cannot be made .*ValueError: boom"
    ):
        backend.reset(np.ones(2, np.bool_), [5, 5])
    backend.close()


def test_a_worker_that_dies_while_it_makes_its_environment():
    Faulty()
    with pytest.raises(
        RunError, match=r"the worker process of environment 0 .* died while it was made with exit code 7"
    ):
        GymnasiumBackend(env_id("Faulty"), 1, {"fault": "die", "when": "made 0"}, vectorization="async")
    assert multiprocessing.active_children() == []


def test_what_was_made_is_closed_where_another_one_cannot_be_made():
    closed = len(CLOSED)
    with pytest.raises(UsageError, match="cannot be made"):
        GymnasiumBackend(env_id("Faulty"), 3, {"fault": "exit", "when": f"made {len(MADE) + 2}"})
    assert len(CLOSED) == closed + 2


def test_one_that_cannot_be_closed_does_not_keep_the_others_open():
    backend = GymnasiumBackend(env_id("Faulty"), 3, {"fault": "raise", "when": "close"})
    closed = len(CLOSED)
    backend.close()
    backend.close()
    assert len(CLOSED) == closed + 3


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
    make = environment_factory(env_id("Sleeps"), {}, ())
    stepper = AsyncStepper([GuardedFactory(make, index, "Sleeps") for index in range(2)], "Sleeps", patience=0.5)
    try:
        stepper.reset(np.ones(2, np.bool_), [0, 1])
        stepper.send(np.array([0, 1]))
        with pytest.raises(
            BrokenEnvironmentError, match=r"environment 1 \('Sleeps'\) did not answer for 0.5 s in step: it was ended"
        ) as error:
            stepper.recv()
        assert error.value.env_index == 1
    finally:
        stepper.close()
    assert not any(process.is_alive() for process in stepper._vector.processes)


def steps(backend: GymnasiumBackend, count: int) -> None:
    for _ in range(count):
        backend.send(np.zeros(backend.spec.num_envs, np.int64))
        backend.recv()


def played(environments: EpisodicVector, count: int) -> StepResult:
    environments.reset()
    for _ in range(count):
        environments.send(np.zeros(environments.spec.num_envs, np.int64))
        result = environments.recv()
    return result
