"""The schema: its defaults, the combinations that it refuses, and the presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dqn_cli.config import list_presets, load_config
from dqn_cli.core.errors import UsageError
from dqn_cli.envs.atari import AtariOptions
from dqn_cli.schema import RunOptions

CONFIGS = Path(__file__).parents[1] / "configs"
PRESETS = list_presets(CONFIGS)

DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "device": "auto",
    "precision": "auto",
    "threads": "auto",
    "memory_format": "auto",
    "deterministic": False,
    "cuda_graphs": False,
    "total_steps": 50_000,
    "stop": None,
    "env": {
        "kind": "gymnasium",
        "id": "CartPole-v1",
        "num_envs": 4,
        "kwargs": {},
        "wrappers": [],
        "vectorization": "sync",
    },
    "network": {
        "torso": {"kind": "mlp", "hidden": [256, 256], "layer_norm": False},
        "head": {"kind": "scalar", "dueling": False, "hidden": []},
        "noisy": None,
    },
    "replay": {
        "capacity": 100_000,
        "warmup_steps": 1_000,
        "n_step": 1,
        "reward_clip": None,
        "storage": "auto",
        "compressed_bytes": None,
        "sampler": {"kind": "uniform"},
    },
    "learning": {
        "batch_size": 64,
        "gamma": 0.99,
        "update_every_steps": 4,
        "updates": 1,
        "bootstrap": {"kind": "greedy"},
        "value_rescaling": None,
        "loss": "auto",
        "augmentation": [],
        "max_grad_norm": 10.0,
        "lr_schedule": None,
        "optimizer": {"kind": "adam", "lr": 5.0e-4, "eps": 1.0e-8},
        "target": {"kind": "periodic", "every_updates": 250, "every_steps": None},
        "resets": None,
    },
    "exploration": {
        "kind": "epsilon_greedy",
        "start": 1.0,
        "end": 0.05,
        "begin_steps": None,
        "decay_steps": 10_000,
        "off_after_steps": None,
    },
    "evaluation": {"every_steps": 10_000, "episodes": 20, "epsilon": 0.0},
    "checkpoint": {"every_steps": 10_000, "keep": 2, "keep_best": True},
}

ATARI_DEFAULTS: dict[str, Any] = {
    "kind": "atari",
    "game": "Pong",
    "num_envs": 8,
    "threads": "auto",
    "sticky": 0.25,
    "full_action_set": False,
    "frame_skip": 4,
    "stack": 4,
    "screen": 84,
    "noop_max": 30,
    "fire_on_reset": True,
    "terminal_on_life_loss": False,
    "max_episode_frames": 108_000,
}


class TestDefaults:
    def test_of_a_run(self):
        assert RunOptions().model_dump(mode="json") == DEFAULTS
        assert RunOptions.model_validate({}) == RunOptions()

    def test_of_atari(self):
        assert AtariOptions(kind="atari").model_dump(mode="json") == ATARI_DEFAULTS

    def test_of_rmsprop(self):
        optimizer = RunOptions.model_validate({"learning": {"optimizer": {"kind": "rmsprop"}}}).learning.optimizer
        assert optimizer.model_dump() == {
            "kind": "rmsprop",
            "lr": 2.5e-4,
            "decay": 0.95,
            "centered": True,
            "eps": 0.01,
            "eps_inside_sqrt": True,
        }

    def test_a_dump_reads_back(self):
        assert RunOptions.model_validate(RunOptions().model_dump(mode="json")) == RunOptions()


CNN = {"network": {"torso": {"kind": "cnn"}}}

CONFLICTS = [
    (
        {"learning": {"batch_size": 65}, "replay": {"capacity": 64, "warmup_steps": 10}},
        "learning.batch_size 65 is above replay.capacity 64: a batch could never be full of different transitions",
    ),
    (
        {"replay": {"capacity": 999}},
        "replay.warmup_steps 1000 is above replay.capacity 999: "
        "the first of those steps would be forgotten before learning begins",
    ),
    (
        {"total_steps": 1_000},
        "replay.warmup_steps 1000 is not below total_steps 1000: nothing would ever be learnt",
    ),
    (
        {"replay": {"capacity": 99, "warmup_steps": 0, "n_step": 25}, "env": {"num_envs": 4}},
        "replay.n_step 25 times env.num_envs 4 is above replay.capacity 99: "
        "the replay would not hold one window of each environment",
    ),
    ({"precision": "bfloat16"}, "precision bfloat16 serves convolutional torsos"),
    ({"memory_format": "channels_last"}, "memory_format channels_last serves convolutional torsos"),
    (
        {"learning": {"augmentation": [{"kind": "intensity"}, {"kind": "random_shift"}]}},
        "learning.augmentation random_shift moves pixels of images, and torso mlp takes plain numbers",
    ),
    (
        {"network": {"head": {"kind": "categorical"}}, "learning": {"bootstrap": {"kind": "munchausen"}}},
        "learning.bootstrap munchausen has no meaning for head categorical",
    ),
    (
        {"network": {"head": {"kind": "categorical"}}, "learning": {"loss": "huber"}},
        "learning.loss huber has no meaning for head categorical; use cross_entropy",
    ),
    (
        {"network": {"head": {"kind": "quantile"}}, "learning": {"loss": "squared"}},
        "learning.loss squared has no meaning for head quantile; use quantile_huber",
    ),
    (
        {"network": {"head": {"kind": "categorical"}}, "learning": {"value_rescaling": {}}},
        "learning.value_rescaling has no meaning for head categorical",
    ),
    (
        {"network": {"head": {"kind": "quantile"}}, "learning": {"value_rescaling": {}}},
        "learning.value_rescaling has no meaning for head quantile",
    ),
    (
        {"learning": {"value_rescaling": {}, "bootstrap": {"kind": "munchausen"}}},
        "learning.value_rescaling has no meaning with learning.bootstrap munchausen",
    ),
    (
        {"network": {"head": {"kind": "categorical"}}, "learning": {"bootstrap": {"kind": "advantage"}}},
        "learning.bootstrap advantage has no meaning for head categorical",
    ),
    (
        {"learning": {"value_rescaling": {}, "bootstrap": {"kind": "advantage"}}},
        "learning.value_rescaling has no meaning with learning.bootstrap advantage",
    ),
    (
        {"learning": {"resets": {"every_updates": 6_126}}},
        "learning.resets.every_updates 6126 would never reset: as many updates must follow a reset, and the run has "
        "12250",
    ),
    (
        {"network": {"noisy": {}}, "exploration": {"end": 0.2}},
        "network.noisy explores by its noise, and exploration.end 0.2 keeps epsilon from ever getting small",
    ),
    (
        {"network": {"noisy": {}}, "exploration": {"end": 0.2, "off_after_steps": 50_000}},
        "network.noisy explores by its noise",
    ),
]

AT_THE_EDGE = [
    {"learning": {"batch_size": 64}, "replay": {"capacity": 64, "warmup_steps": 10}},
    {"replay": {"capacity": 1_000}},
    {"total_steps": 1_001},
    {"replay": {"capacity": 100, "warmup_steps": 0, "n_step": 25}},
    {"precision": "bfloat16", **CNN},
    {"memory_format": "channels_last", **CNN},
    {"precision": "float32", "memory_format": "contiguous"},
    {"network": {"noisy": {}}, "exploration": {"end": 0.1}},
    {"network": {"noisy": {}}, "exploration": {"end": 0.2, "off_after_steps": 49_999}},
    {"exploration": {"end": 0.2}},
    {"network": {"head": {"kind": "quantile"}}, "learning": {"bootstrap": {"kind": "munchausen"}}},
    {"learning": {"value_rescaling": {}, "bootstrap": {"kind": "double"}}},
    {"learning": {"augmentation": [{"kind": "intensity"}]}},
    {"learning": {"resets": {"every_updates": 6_125}}},
]


def complaint(config) -> str:
    with pytest.raises(ValidationError) as refused:
        RunOptions.model_validate(config)
    return str(refused.value)


class TestConflicts:
    @pytest.mark.parametrize(("config", "reason"), CONFLICTS)
    def test_refused_with_the_reason(self, config, reason):
        assert reason in complaint(config)

    @pytest.mark.parametrize("config", AT_THE_EDGE)
    def test_what_just_fits_is_taken(self, config):
        RunOptions.model_validate(config)

    def test_all_of_them_are_told_at_once(self):
        text = complaint({"total_steps": 500, "precision": "bfloat16", "replay": {"capacity": 50}})
        for part in ("batch_size 64", "warmup_steps 1000 is above", "not below total_steps 500", "precision bfloat16"):
            assert part in text

    @pytest.mark.parametrize("loss", ["auto", "huber", "squared"])
    def test_losses_of_the_scalar_head(self, loss):
        RunOptions.model_validate({"learning": {"loss": loss}})

    def test_a_loss_without_meaning_for_the_head(self, monkeypatch):
        monkeypatch.setattr("dqn_cli.schema.OBJECTIVES", {"scalar": {"huber": None}})
        assert "learning.loss squared has no meaning for head scalar; use huber" in complaint(
            {"learning": {"loss": "squared"}}
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "gpu"},
        {"device": "cuda:"},
        {"device": "cpu:0"},
        {"seed": -1},
        {"threads": 0},
        {"threads": "all"},
        {"total_steps": 0},
        {"stop": {"window": 100}},
        {"env": {"kind": "atari", "gam": "Pong"}},
        {"learning": {"gamma": 1.5}},
        {"learning": {"max_grad_norm": 0.0}},
        {"learning": {"target": {"kind": "periodic"}}},
        {"learning": {"target": {"every_steps": 4, "every_updates": 4}}},
        {"network": {"torso": {"kind": "cnn", "channels": [8]}}},
        {"learning": {"augmentation": {"kind": "intensity"}}},
        {"learning": {"augmentation": [{"kind": "mirror"}]}},
        {"learning": {"bootstrap": {"kind": "munchausen", "floor": 0.0}}},
        {"network": {"head": {"kind": "categorical", "v_min": 1.0, "v_max": 1.0}}},
        {"network": {"head": {"kind": "categorical", "atoms": 1}}},
        {"network": {"head": {"kind": "categorical", "v_min": 1.0, "v_max": 1.0000000001}}},
        {"network": {"head": {"kind": "categorical", "v_min": -1e300, "v_max": 1e300}}},
        {"network": {"head": {"kind": "quantile", "quantiles": 1_001}}},
        {"learning": {"bootstrap": {"kind": "munchausen", "temperature": 1e-300}}},
        {"learning": {"bootstrap": {"kind": "advantage", "alpha": 1.0}}},
        {"learning": {"value_rescaling": {"eps": 1e300}}},
        {"network": {"noisy": {"sigma": 1e300}}},
        {"network": {"noisy": {"sigma": 0.0}}},
        {"unknown": 1},
    ],
)
def test_wrong_values_are_refused(wrong):
    complaint(wrong)


def preset(name) -> Any:
    return load_config(name, [], RunOptions, CONFIGS).options


class TestPresets:
    def test_names(self):
        expected = {
            "cartpole",
            "acrobot",
            "mountaincar",
            "lunarlander",
            "cartpole-classic",
            "atari/nature",
            "atari/default",
        }
        assert expected <= set(PRESETS)

    @pytest.mark.parametrize("name", PRESETS)
    def test_each_of_them_loads(self, name):
        assert isinstance(preset(name), RunOptions)

    def test_each_file_is_a_preset(self):
        assert len(PRESETS) == len(list(CONFIGS.rglob("*.y*ml")))

    def test_cartpole_classic_is_the_textbook_s(self):
        expected = {
            **DEFAULTS,
            "env": {**DEFAULTS["env"], "num_envs": 1},
            "learning": {
                **DEFAULTS["learning"],
                "update_every_steps": 1,
                "loss": "huber",
                "max_grad_norm": None,
                "target": {"kind": "periodic", "every_updates": None, "every_steps": 1_000},
            },
            "evaluation": {**DEFAULTS["evaluation"], "every_steps": 5_000},
        }
        assert preset("cartpole-classic").model_dump(mode="json") == expected

    def test_nature_is_the_paper_s(self):
        """Mnih et al. 2015, Extended Data Table 1; traps 1, 2, 12 and 14."""
        nature = preset("atari/nature")
        env, learning = nature.env, nature.learning
        assert nature.total_steps == 50_000_000
        assert (env.frame_skip, env.stack, env.screen, env.noop_max) == (4, 4, 84, 30)
        assert (env.sticky, env.full_action_set, env.fire_on_reset) == (0.0, False, False)
        assert (env.terminal_on_life_loss, env.max_episode_frames) == (True, 108_000)
        assert nature.network.model_dump() == {
            "torso": {
                "kind": "cnn",
                "channels": (32, 64, 64),
                "kernels": (8, 4, 3),
                "strides": (4, 2, 1),
                "hidden": (512,),
            },
            "head": {"kind": "scalar", "dueling": False, "hidden": ()},
            "noisy": None,
        }
        replay = nature.replay
        assert (replay.capacity, replay.warmup_steps, replay.n_step) == (1_000_000, 50_000, 1)
        assert (replay.reward_clip, replay.sampler.kind) == (1.0, "uniform")
        assert (learning.batch_size, learning.gamma, learning.update_every_steps, learning.updates) == (32, 0.99, 4, 1)
        assert (learning.bootstrap.kind, learning.loss, learning.max_grad_norm) == ("greedy", "huber", None)
        # The paper's eps of 0.01 is for the sum of a batch's gradients, the mean is a 32nd of it.
        assert learning.optimizer.model_dump() == {
            "kind": "rmsprop",
            "lr": 2.5e-4,
            "decay": 0.95,
            "centered": True,
            "eps": 0.01 / 32**2,
            "eps_inside_sqrt": True,
        }
        assert learning.target.model_dump() == {"kind": "periodic", "every_updates": None, "every_steps": 10_000}
        exploration = nature.exploration
        assert (exploration.start, exploration.end, exploration.decay_steps) == (1.0, 0.1, 1_000_000)
        assert exploration.begin_steps in (None, 50_000)
        assert nature.evaluation.epsilon == 0.05


class TestTold:
    def told(self, *overrides: str) -> list[str]:
        with pytest.raises(UsageError) as refused:
            load_config("cartpole", overrides, RunOptions, CONFIGS)
        return str(refused.value).splitlines()

    def test_each_conflict_is_a_problem_of_its_own(self):
        count, *problems = self.told(
            "network.head={kind: categorical}", "learning.bootstrap={kind: munchausen}", "learning.value_rescaling={}"
        )
        assert count.startswith("4 problems in ")
        for word in ("learning.loss", "learning.bootstrap", "head categorical", "with learning.bootstrap"):
            assert sum(word in problem for problem in problems) >= 1

    def test_a_key_of_several_kinds_names_them_all(self):
        (_, problem) = self.told("learning.bootstrap.alpha=0.5")
        assert "It is a key of kinds 'munchausen' and 'advantage', and this is kind 'double'" in problem or (
            "It is a key of kinds 'advantage' and 'munchausen', and this is kind 'double'" in problem
        )
