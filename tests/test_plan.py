"""The plan: its figures against counting, and a replay that does not fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli import plan as plan_module
from dqn_cli.build import TARGETS
from dqn_cli.compose import make_environments, make_training
from dqn_cli.core.errors import UsageError
from dqn_cli.core.kinds import make
from dqn_cli.hardware import resolve_hardware
from dqn_cli.plan import RESERVE_BYTES, Plan, check_memory, make_plan, size
from dqn_cli.schema import RunOptions, learning_begins
from dqn_cli.training.pacing import Pacing

SMALL = {"torso": {"hidden": [4]}}
ATARI: dict[str, Any] = {
    "env": {"kind": "atari", "num_envs": 2, "screen": 42},
    "network": {"torso": {"kind": "cnn", "channels": [4], "kernels": [4], "strides": [4], "hidden": [8]}},
    "replay": {"capacity": 3_000, "warmup_steps": 0, "n_step": 3},
}


def run_options(**sections) -> RunOptions:
    return RunOptions.model_validate({"device": "cpu", "network": SMALL, **sections})


def allocated(owner: object) -> int:
    """Bytes of the arrays that an object holds."""
    held = np.ndarray | memoryview | torch.Tensor
    return sum(value.nbytes for value in vars(owner).values() if isinstance(value, held)) if owner is not None else 0


def test_parameters():
    layers = ((4, 256), (256, 256), (256, 2))
    assert make_plan(RunOptions()).parameters == sum(i * o + o for i, o in layers)


@pytest.mark.parametrize(
    "sections",
    [
        {"replay": {"capacity": 1_000}},
        {"replay": {"capacity": 1_001, "warmup_steps": 0, "n_step": 5}, "env": {"num_envs": 7}},
        ATARI,
        ATARI | {"replay": ATARI["replay"] | {"storage": "compressed"}},
        ATARI | {"replay": ATARI["replay"] | {"storage": "compressed", "compressed_bytes": 10**12}},
        {"replay": {"capacity": 20_000, "sampler": {"kind": "prioritized"}}},
        {"replay": {"capacity": 1_000, "storage": "device"}},
        ATARI | {"replay": ATARI["replay"] | {"storage": "device"}},
        {"replay": {"capacity": 20_000, "storage": "device", "sampler": {"kind": "prioritized"}}},
    ],
)
def test_the_replay_s_memory_is_what_it_allocates(sections):
    options = run_options(**sections)
    environments = make_environments(options)
    replay = make_training(options, resolve_hardware(options), environments).replay
    environments.close()
    tree: Any = getattr(replay._sampler, "_tree", None)
    priorities = sum(level.nbytes for level in tree._levels) if tree else 0
    found = allocated(replay.frames) + allocated(replay.items) + allocated(replay.items._copy) + priorities
    assert make_plan(options).replay_bytes == pytest.approx(found, rel=1e-3 if tree else 0.0)


def simulated(options: Any) -> tuple[int, int | None]:
    """Counts updates and copies by going through the vector steps of the loop."""
    num_envs = options.env.num_envs
    pacing = Pacing(learning_begins(options), options.learning.update_every_steps, options.learning.updates)
    rule = make(TARGETS, options.learning.target)
    online, target = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    updates = 0
    for step in range(0, options.total_steps + num_envs, num_envs):
        while updates < pacing.updates_until(step):
            rule.before_update(online, target, step)
            updates += 1
            rule.after_update(online, target, updates)
    return updates, getattr(rule, "copies", None)


TARGET_OPTIONS = st.one_of(
    st.builds(lambda every: {"every_updates": every}, st.integers(1, 40)),
    st.builds(lambda every: {"every_steps": every}, st.integers(1, 90)),
    st.just({"kind": "polyak"}),
)


class TestCounts:
    @settings(max_examples=150)
    @given(
        st.integers(101, 500),
        st.integers(1, 9),
        st.integers(0, 100),
        st.integers(1, 3),
        st.tuples(st.integers(1, 40), st.integers(1, 4)),
        TARGET_OPTIONS,
    )
    def test_updates_and_target_copies_equal_the_simulation(self, total, num_envs, warmup, n_step, pace, target):
        options = run_options(
            total_steps=total,
            env={"num_envs": num_envs},
            replay={"warmup_steps": warmup, "n_step": n_step},
            learning={"update_every_steps": pace[0], "updates": pace[1], "target": target},
        )
        plan = make_plan(options)
        assert (plan.updates, plan.target_copies) == simulated(options)

    @pytest.mark.parametrize(
        ("target", "copies"),
        [({"every_updates": 250}, 12_250 // 250), ({"every_steps": 1_000}, 50), ({"kind": "polyak"}, None)],
    )
    def test_of_the_defaults(self, target, copies):
        plan = make_plan(run_options(learning={"target": target}))
        assert (plan.updates, plan.target_copies) == ((50_000 - 1_000) // 4, copies)

    def test_a_copy_before_each_burst_is_one_copy_a_burst(self):
        plan = make_plan(
            run_options(learning={"update_every_steps": 256, "updates": 128, "target": {"every_steps": 10}})
        )
        assert (plan.updates, plan.target_copies) == (191 * 128, 191)

    @pytest.mark.parametrize("every", [1, 3, 1_000, 10**6])
    def test_a_run_of_any_length_is_planned_at_once(self, every, tmp_path):
        learning = {"update_every_steps": 5, "target": {"every_steps": every}}
        plan = make_plan(run_options(total_steps=10**15, env={"num_envs": 2}, learning=learning))
        if every == 1 or every == 3:  # fewer than the six steps between some bursts
            assert plan.target_copies is None
            assert f"target network: a copy every {every} steps" in plan.text(tmp_path)
        else:
            assert plan.target_copies == 10**15 // every - max(0, 1_000 // every - 1)

    def test_total_steps_are_rounded_up_to_whole_vector_steps(self):
        options = run_options(
            total_steps=100, env={"num_envs": 8}, replay={"warmup_steps": 0}, learning={"update_every_steps": 1}
        )
        assert make_plan(options).updates == 104 - 8


class TestMemory:
    @pytest.fixture
    def available(self, monkeypatch):
        def set_available(count):
            monkeypatch.setattr(plan_module, "available_memory", lambda: count)

        return set_available

    @pytest.fixture
    def gpu(self, monkeypatch):
        """Pretends that there is a GPU with so much memory."""
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)

        def pretend(total: int, free: int) -> None:
            monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=total))
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, total))

        return pretend

    def refusal(self, plan) -> str:
        with pytest.raises(UsageError) as refused:
            check_memory(plan)
        return str(refused.value)

    def test_to_the_byte(self, available):
        plan = make_plan(run_options())
        available(plan.replay_bytes + plan.network_bytes + RESERVE_BYTES)
        check_memory(plan)
        available(plan.replay_bytes + plan.network_bytes + RESERVE_BYTES - 1)
        self.refusal(plan)

    def test_unknown_memory_is_not_refused(self, available):
        available(None)
        check_memory(make_plan(run_options()))

    @pytest.mark.parametrize(
        ("sections", "share"),
        [({"replay": {"capacity": 1_000_000, "warmup_steps": 0}}, share) for share in (0.9, 0.11, 0.009)]
        + [({"replay": {"capacity": 5_000, "warmup_steps": 0}}, share) for share in (0.9, 0.5, 0.04)]
        + [({**ATARI, "replay": {**ATARI["replay"], "storage": "dense"}}, 0.3)]
        + [({**ATARI, "replay": {**ATARI["replay"], "capacity": 90_000, "storage": "compressed"}}, 0.5)],
    )
    def test_the_capacity_that_it_names_fits(self, available, sections, share):
        options = run_options(**{"learning": {"batch_size": 8}, **sections})
        plan = make_plan(options)
        room = int(share * plan.replay_bytes)
        available(RESERVE_BYTES + plan.network_bytes + room)
        text = self.refusal(plan)
        assert f"replay.capacity {options.replay.capacity:,} needs {size(plan.replay_bytes)}" in text
        assert f"{size(room)} of memory are free" in text
        found = re.search(r"replay\.capacity=(\d+) fits", text)
        assert found is not None

        def with_capacity(capacity: int) -> Plan:
            replay = options.replay.model_dump() | {"capacity": capacity}
            return make_plan(RunOptions.model_validate(options.model_dump() | {"replay": replay}))

        named = int(found[1])
        check_memory(with_capacity(named))
        # No more is held back than the rounding of large numbers.
        self.refusal(with_capacity(named + (1_000 if named > 10_000 else 1)))

    def test_a_capacity_that_the_other_options_forbid_is_not_named(self, available):
        plan = make_plan(run_options(replay={"capacity": 100_000, "warmup_steps": 60_000}, total_steps=70_000))
        available(RESERVE_BYTES + plan.network_bytes + int(0.5 * plan.replay_bytes))
        assert self.refusal(plan).endswith("; free some memory first")

    def test_nothing_fits(self, available):
        plan = make_plan(run_options())
        available(RESERVE_BYTES + plan.network_bytes)
        assert self.refusal(plan).endswith("0 B of memory are free for it; free some memory first")

    @pytest.mark.parametrize("free", [0, RESERVE_BYTES // 2, RESERVE_BYTES, RESERVE_BYTES + 10_000])
    def test_not_even_the_networks_fit(self, available, free):
        plan = make_plan(RunOptions(device="cpu"))
        available(free)
        text = self.refusal(plan)
        assert text.startswith("network: 67,586 parameters need 2.4 MB with target network, gradients, optimiser and")
        assert f"{size(max(0, free - RESERVE_BYTES))} of memory are free for it; free some memory first" in text

    def test_frames_are_compressed_where_dense_ones_do_not_fit(self, available):
        dense = make_plan(run_options(**ATARI))
        assert dense.options.replay.storage == "dense"
        available(RESERVE_BYTES + dense.network_bytes + dense.replay_bytes - 1)
        packed = make_plan(run_options(**ATARI))
        assert packed.options.replay.storage == "compressed"
        # 28% of the frames, the sizes of chunks, and where each frame lies.
        assert 0.28 < packed.replay_bytes / dense.replay_bytes < 0.75
        check_memory(packed)
        assert "compressed" in packed.text(Path("run"))
        assert make_plan(run_options(**ATARI | {"replay": ATARI["replay"] | {"storage": "dense"}})).options == (
            dense.options
        )
        available(RESERVE_BYTES + dense.network_bytes + packed.replay_bytes - 1)
        assert "compressed, and" in self.refusal(make_plan(run_options(**ATARI)))

    @pytest.mark.parametrize(("card", "storage"), [(2.0, "device"), (1.99, "dense"), (0.0, "dense")])
    def test_frames_live_on_a_gpu_where_they_fill_at_most_half_of_it(self, gpu, available, card, storage):
        memory = make_plan(run_options(**ATARI)).replay_bytes
        gpu(total=int(card * memory), free=10**12)
        assert make_plan(run_options(**ATARI | {"device": "cuda"})).options.replay.storage == storage
        available(RESERVE_BYTES)  # of the host: a replay on the GPU needs nothing of it
        expected = storage if storage == "device" else "compressed"
        assert make_plan(run_options(**ATARI | {"device": "cuda"})).options.replay.storage == expected

    def test_who_gives_a_budget_for_compressed_frames_means_the_host(self, gpu):
        gpu(total=10**12, free=10**12)
        asked = {**ATARI["replay"], "compressed_bytes": 10**8}
        assert make_plan(run_options(**ATARI | {"device": "cuda", "replay": asked})).options.replay.storage == "dense"

    def test_what_does_not_fit_on_a_gpu_is_refused(self, gpu):
        gpu(total=10**12, free=10**12)
        plan = make_plan(run_options(**ATARI | {"device": "cuda"}))
        assert f"{size(plan.replay_bytes)} on the GPU" in plan.text(Path("run"))
        gpu(total=10**12, free=RESERVE_BYTES + plan.network_bytes + plan.replay_bytes)
        check_memory(plan)
        gpu(total=10**12, free=RESERVE_BYTES + plan.network_bytes + plan.replay_bytes - 1)
        assert "of GPU memory are free for it; replay.capacity=2" in self.refusal(plan)

    def test_a_budget_for_less_than_a_transition_is_refused(self):
        asked = {**ATARI, "replay": {**ATARI["replay"], "storage": "compressed", "compressed_bytes": 1_000}}
        with pytest.raises(UsageError, match=r"replay.compressed_bytes 1,000 may be too few .* give at least [0-9,]+"):
            make_plan(run_options(**asked))

    def test_networks_on_a_gpu_take_no_memory_of_the_host(self, available):
        plan = make_plan(run_options())
        available(plan.replay_bytes + RESERVE_BYTES)
        self.refusal(plan)
        check_memory(replace(plan, hardware=replace(plan.hardware, device=torch.device("cuda"))))

    def test_the_networks_memory_is_what_they_allocate(self):
        options = run_options(network={"torso": {"hidden": [64, 32]}})
        environments = make_environments(options)
        training = make_training(options, resolve_hardware(options), environments)
        environments.close()
        training.replay.begin(np.zeros((4, 1, 4), np.float32))
        no = np.zeros(4, np.bool_)
        zeros = np.zeros((4, 1, 4), np.float32)
        training.replay.append(np.zeros(4, np.int64), np.ones(4), no, no, zeros, no, zeros)
        training.learner.update(training.replay.sample(8, 0), 0)
        state = training.learner.state_dict()  # a copy of all but the gradients
        moments = [t for s in state["optimizer"]["state"].values() for t in s.values() if t.ndim]
        copied = [*state["online"].values(), *state["target"].values(), *moments]
        gradients = [p.grad for p in training.learner.online.parameters() if p.grad is not None]
        held = [*copied, *copied, *gradients]
        assert make_plan(options).network_bytes == sum(tensor.nbytes for tensor in held)

    def test_planning_allocates_no_network(self, available):
        plan = make_plan(run_options(network={"torso": {"hidden": [1_000_000, 1_000_000]}}))
        assert plan.parameters > 10**12
        available(10**10)
        text = self.refusal(plan)
        assert text.startswith("network: 1,000,00")
        assert text.endswith("use a smaller network")

    def test_planning_allocates_no_replay(self):
        assert make_plan(run_options(replay={"capacity": 10**9})).replay_bytes > 10**10


class TestText:
    def test_for_people(self, tmp_path):
        text = make_plan(RunOptions()).text(tmp_path)
        for part in (
            "CartPole-v1, 4 at once, 2 actions, observation 1x4 float32",
            "50,000",
            "67,586 parameters",
            "100,000 transitions, 6.0 MB when full",
            "12,250 of 64 transitions, target network: 49 copies",
            "float32, contiguous, gradients written out",
            str(tmp_path),
        ):
            assert part in text
        polyak = make_plan(run_options(learning={"target": {"kind": "polyak"}})).text(tmp_path)
        assert "target network: at every update" in polyak

    def test_frames_are_told_where_a_step_is_several(self, tmp_path):
        plan = make_plan(run_options(**ATARI))
        assert "50,000 (200,000 frames)" in plan.text(tmp_path)
        assert plan.as_dict(tmp_path)["total_frames"] == 200_000

    def test_emulators_have_threads_of_their_own(self, tmp_path):
        env = ATARI["env"] | {"threads": 3}
        plan = make_plan(run_options(**ATARI | {"env": env, "device": "cpu", "threads": 2, "precision": "float32"}))
        assert "cpu, 2 threads and 3 of emulators, float32" in plan.text(tmp_path)
        assert plan.as_dict(tmp_path)["emulator_threads"] == 3

    def test_for_programs(self, tmp_path):
        plan = make_plan(RunOptions.model_validate({"device": "cpu"}))
        values = json.loads(json.dumps(plan.as_dict(tmp_path)))
        assert values == {
            "environment": "CartPole-v1",
            "num_envs": 4,
            "total_steps": 50_000,
            "total_frames": 50_000,
            "parameters": 67_586,
            "network_bytes": 67_586 * 36,
            "replay_capacity": 100_000,
            "replay_bytes": plan.replay_bytes,
            "replay_storage": "dense",
            "updates": 12_250,
            "target_copies": 49,
            "device": "cpu",
            "threads": 1,
            "emulator_threads": None,
            "precision": "float32",
            "memory_format": "contiguous",
            "gradients": "written out",
            "run_dir": str(tmp_path),
        }

    @pytest.mark.parametrize(
        ("count", "text"),
        [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 kB"),
            (999_400, "999 kB"),
            (999_600, "1.0 MB"),
            (1_540_000, "1.5 MB"),
            (7_297_000_000, "7.30 GB"),
            (2_000_000_000_000, "2000.00 GB"),
        ],
    )
    def test_size(self, count, text):
        assert size(count) == text
