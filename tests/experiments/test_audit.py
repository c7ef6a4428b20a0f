"""The audit: it passes what is right, and names what is wrong, in the environment and in replay itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dqn_cli.agent.learner import Learner
from dqn_cli.core.types import Batch
from dqn_cli.envs.vector import EpisodicVector
from dqn_cli.experiments.audit.audit import audit
from dqn_cli.experiments.audit.report import AuditReport
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.frames import DenseHostFrames
from dqn_cli.replay.items import Items, ItemTable
from dqn_cli.replay.samplers import UniformSampler
from dqn_cli.replay.writer import NStepWriter
from dqn_cli.schema import RunOptions
from tests.envs.hostile import env_id

CONTENTS = {"observation stacks", "actions", "n-step rewards", "discounts", "successors"}


def audited(name: str = "None", n_step: int = 3, num_envs: int = 3, steps: int = 400, **env: Any) -> AuditReport:
    environment = {"id": env_id(name), "num_envs": num_envs} | env
    return audit(
        RunOptions.model_validate(
            {
                "device": "cpu",
                "env": environment,
                "network": {"torso": {"hidden": [4]}},
                "replay": {"n_step": n_step},
                "learning": {"batch_size": 8},
            }
        ),
        steps,
    )


def failed(report: AuditReport) -> dict[str, str]:
    return {check.name: check.failure for check in report.checks if check.failure is not None}


class TestWhatIsRight:
    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize("n_step", [1, 3, 10])
    def test_passes(self, n_step, num_envs):
        report = audited(n_step=n_step, num_envs=num_envs)
        assert failed(report) == {}
        assert all(check.verdict == "ok" for check in report.checks)
        assert report.episodes > 30

    @pytest.mark.parametrize("name", ["OneState", "LastStepReward", "OneStepEpisodes", "Bimodal", "OffsetActions"])
    def test_unusual_environments_pass(self, name):
        assert failed(audited(name)) == {}

    def test_episodes_longer_than_the_ring(self):
        report = audited("NeverEnds")
        assert failed(report) == {}
        assert 0 < report.episodes < 50  # those that the second session cuts

    def test_worker_processes(self):
        assert failed(audited("Bimodal", steps=300, vectorization="async")) == {}

    @pytest.mark.parametrize("stack", [1, 4])
    @pytest.mark.parametrize("lives", [True, False])
    def test_atari(self, stack, lives):
        env = {"kind": "atari", "game": "Breakout", "num_envs": 3, "screen": 42, "stack": stack}
        options = {
            "device": "cpu",
            "env": env | {"terminal_on_life_loss": lives, "sticky": 0.25 if lives else 0.0},
            "network": {"torso": {"kind": "mlp", "hidden": [4]}},
            "replay": {"n_step": 3, "reward_clip": 1.0},
        }
        report = audit(RunOptions.model_validate(options), 1_200)
        assert failed(report) == {}
        assert report.as_dict()["passed"]
        verdicts = {check.name: check.verdict for check in report.checks}
        assert verdicts.pop("declared spaces") == "not seen"
        assert set(verdicts.values()) == {"ok"}


@pytest.mark.parametrize(
    ("name", "checks", "words"),
    [
        ("NanReward", {"steps without errors", "finite rewards"}, "the reward is nan"),
        ("InfiniteReward", {"steps without errors", "finite rewards"}, "the reward is inf"),
        ("WrongDtype", {"declared spaces"}, "of dtype float64 is not in Box"),
        ("Outside", {"declared spaces"}, "is not in Box"),
        ("WrongShape", {"steps without errors", "declared spaces"}, "is not in Box"),
        ("Unseeded", {"two with one seed", "episodes played again"}, "observations differ after step 6"),
        ("Outlives", {"episodes played again"}, "step 6 gave reward and end (7.0, False)"),
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


def items_with(items: Items, **changes: Any) -> Items:
    return Items(**({name: getattr(items, name) for name in Items.__slots__} | changes))


def changed_items(patch: pytest.MonkeyPatch, change: Callable[[Items], Items]) -> None:
    append = NStepWriter.append
    patch.setattr(NStepWriter, "append", lambda self, *args: change(append(self, *args)))


def drop_a_transition(patch: pytest.MonkeyPatch) -> None:
    changed_items(patch, lambda items: items_with(items, **{n: getattr(items, n)[:-1] for n in Items.__slots__}))


def gamma_to_the_n(patch: pytest.MonkeyPatch) -> None:
    changed_items(patch, lambda i: items_with(i, discount=np.where(i.discount > 0, np.float32(0.99**3), np.float32(0))))


def truncation_as_termination(patch: pytest.MonkeyPatch) -> None:
    append = NStepWriter.append
    patch.setattr(
        NStepWriter,
        "append",
        lambda self, actions, reward, terminal, truncated, ids: append(
            self, actions, reward, terminal | truncated, truncated, ids
        ),
    )


def actions_of_a_neighbour(patch: pytest.MonkeyPatch) -> None:
    append = NStepWriter.append
    patch.setattr(NStepWriter, "append", lambda self, actions, *rest: append(self, np.roll(actions, 1), *rest))


def rewards_of_the_wrong_sign(patch: pytest.MonkeyPatch) -> None:
    changed_items(patch, lambda items: items_with(items, reward=-items.reward))


def stale_observation(patch: pytest.MonkeyPatch) -> None:
    changed_items(patch, lambda items: items_with(items, stack=np.maximum(items.stack - 3, 0)))


def successor_of_the_next_episode(patch: pytest.MonkeyPatch) -> None:
    append: Any = Replay.append

    def wrong(self: Replay, *arguments: Any) -> None:
        successor = arguments[6]
        append(self, *arguments[:4], successor, *arguments[5:])

    patch.setattr(Replay, "append", wrong)


def items_that_never_leave(patch: pytest.MonkeyPatch) -> None:
    extend = UniformSampler.extend
    patch.setattr(UniformSampler, "extend", lambda self, tail, head: extend(self, max(0, tail - 40), head))


def a_frame_that_is_overwritten(patch: pytest.MonkeyPatch) -> None:
    write = DenseHostFrames._write

    def wrong(self: DenseHostFrames, first: int, frames: Any) -> Any:
        ids = write(self, first, frames)
        if first > 30:
            self._frames[(first - 21) % self.capacity + 1] = 7
        return ids

    patch.setattr(DenseHostFrames, "_write", wrong)


def items_that_leave_early(patch: pytest.MonkeyPatch) -> None:
    expire = ItemTable.expire
    patch.setattr(ItemTable, "expire", lambda self, oldest: expire(self, oldest + 120))


def a_batch_that_is_shuffled(patch: pytest.MonkeyPatch) -> None:
    sample = Replay.sample

    def wrong(self: Replay, size: int) -> Batch:
        batch = sample(self, size)
        values = {name: getattr(batch, name) for name in Batch.__slots__}
        return Batch(**(values | {"observation": batch.observation.flip(0)}))

    patch.setattr(Replay, "sample", wrong)


def a_sampler_that_prefers_new_items(patch: pytest.MonkeyPatch) -> None:
    sample = UniformSampler.sample

    def wrong(self: UniformSampler, size: int) -> Any:
        keys, weights = sample(self, size)
        return np.where(np.arange(size) % 10, keys, self._head - 1), weights

    patch.setattr(UniformSampler, "sample", wrong)


def weights_of_two(patch: pytest.MonkeyPatch) -> None:
    sample = UniformSampler.sample

    def wrong(self: UniformSampler, size: int) -> Any:
        keys, weights = sample(self, size)
        return keys, 2 * weights

    patch.setattr(UniformSampler, "sample", wrong)


def a_phantom_step(patch: pytest.MonkeyPatch) -> None:
    """The environment is stepped once more after each reset."""
    begin = EpisodicVector._begin

    def wrong(self: EpisodicVector, mask: Any) -> Any:
        reset = begin(self, mask)
        self._backend.send(np.zeros(len(mask), np.int64))
        step = self._backend.recv()
        return type(reset)(step.observation, reset.lives, reset.frames)

    patch.setattr(EpisodicVector, "_begin", wrong)


@pytest.mark.parametrize(
    ("defect", "check"),
    [
        (drop_a_transition, "transitions stored"),
        (gamma_to_the_n, "discounts"),
        (truncation_as_termination, "discounts"),
        (actions_of_a_neighbour, "actions"),
        (rewards_of_the_wrong_sign, "n-step rewards"),
        (stale_observation, "observation stacks"),
        (successor_of_the_next_episode, "successors"),
        (a_frame_that_is_overwritten, "items that live"),
        (items_that_leave_early, "items that live"),
        (a_batch_that_is_shuffled, "sampled batches"),
        (a_sampler_that_prefers_new_items, "sampling frequencies"),
        (weights_of_two, "importance weights"),
        (a_phantom_step, "episodes played again"),
    ],
)
def test_a_defect_of_ours_is_found(defect, check, monkeypatch):
    defect(monkeypatch)
    assert check in failed(audited("None"))


def test_an_item_that_has_left_and_is_sampled(monkeypatch):
    items_that_never_leave(monkeypatch)
    found = failed(audited("None"))
    assert "was sampled and does not live" in found["sampled batches"]


def test_it_does_not_learn_from_the_record(monkeypatch):
    """The learner is only timed: the audit holds whatever it does."""
    monkeypatch.setattr(Learner, "update", lambda *_: None)
    assert failed(audited()) == {}
