"""`dqn bench`: what it counts is what is there; how long anything takes is nobody's promise."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import make_environments, make_training
from dqn_cli.config import load_config
from dqn_cli.core.errors import UsageError
from dqn_cli.experiments.benchmark.measure import benchmark, small
from dqn_cli.experiments.benchmark.products import Product, products_of, seconds_alone
from dqn_cli.experiments.benchmark.tune import WORTH, advise, candidates, tune
from dqn_cli.hardware import resolve_hardware
from dqn_cli.schema import RunOptions
from tests.core.test_captured import refusing
from tests.recording import repeating
from tests.small_runs import PONG, SMALL

FLOAT = torch.float32


def options(*overrides: str, config: str = "cartpole") -> RunOptions:
    return load_config(config, overrides, RunOptions, presets_folder()).options


class TestProducts:
    def test_of_a_linear_layer_and_its_gradients(self):
        layer, x = nn.Linear(3, 5), torch.randn(7, 3, requires_grad=True)
        assert products_of(lambda: layer(x)) == {Product(1, 7, 3, 5, FLOAT): 1}
        found = products_of(lambda: layer(x).sum().backward())
        assert found == {Product(1, 7, 3, 5, FLOAT): 1, Product(1, 7, 5, 3, FLOAT): 1, Product(1, 5, 7, 3, FLOAT): 1}

    def test_of_a_convolution_and_its_gradients(self):
        layer, x = nn.Conv2d(2, 5, 3, stride=2), torch.randn(4, 2, 9, 9, requires_grad=True)
        forward = Product(1, 4 * 4 * 4, 2 * 3 * 3, 5, FLOAT)
        assert products_of(lambda: layer(x)) == {forward: 1}
        found = products_of(lambda: layer(x).sum().backward())
        assert found == {forward: 1, Product(1, 64, 5, 18, FLOAT): 1, Product(1, 5, 64, 18, FLOAT): 1}

    def test_the_first_layer_has_no_gradient_of_its_input(self):
        layer, x = nn.Conv2d(2, 5, 3), torch.randn(4, 2, 9, 9)
        assert sum(products_of(lambda: layer(x).sum().backward()).values()) == 2

    @pytest.mark.parametrize("preset", ["cartpole", "atari/default", "atari/iqn", "atari/btr"])
    def test_their_operations_are_those_that_torch_counts(self, preset):
        shared = ("learning.batch_size=4", "device=cpu", "precision=float32", "env.num_envs=2")
        run = small(options(*shared, "replay.capacity=200", "replay.warmup_steps=20", config=preset))
        environments = make_environments(run)
        training = make_training(run, resolve_hardware(run), environments)
        training.replay.begin(environments.reset())
        for _ in range(12):
            actions = training.actor.act(environments.observation, 0)
            environments.send(actions)
            r = environments.recv()
            training.replay.append(actions, r.reward, r.terminal, r.truncated, r.successor, r.restarted, r.observation)
        environments.close()
        batch = training.replay.sample(4, 0)
        with FlopCounterMode(display=False) as counter:
            training.learner.update(batch, 10**6)
        found = products_of(lambda: training.learner.update(batch, 10**6))
        assert sum(count * product.operations for product, count in found.items()) == counter.get_total_flops()

    def test_each_is_timed_as_often_as_it_occurs(self, monkeypatch):
        ticks = iter(range(1_000))
        monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
        products = Counter({Product(1, 2, 3, 4, FLOAT): 3, Product(2, 1, 1, 1, torch.bfloat16): 2})
        assert seconds_alone(products, torch.device("cpu")) == 5.0


def test_the_small_run_is_the_config_but_for_its_size():
    full = options("evaluation.every_steps=100", config="atari/rainbow")
    run = small(full)
    assert (run.replay.capacity, run.replay.warmup_steps) == (20_000, 1_000)
    assert (run.network, run.env, run.learning, run.replay.sampler) == (
        full.network,
        full.env,
        full.learning,
        full.replay.sampler,
    )
    assert run.exploration.model_dump()["start"] == run.exploration.model_dump()["end"]
    tiny = small(options("replay={capacity: 50, warmup_steps: 10}", "learning.batch_size=8"))
    assert (tiny.replay.capacity, tiny.replay.warmup_steps) == (50, 10)


def test_the_replay_lies_where_that_of_the_whole_run_would(monkeypatch):
    made: list[str] = []

    def making(run, *rest):
        made.append(run.replay.storage)
        return make_training(run, *rest)

    monkeypatch.setattr("dqn_cli.plan.available_memory", lambda: 2**30)
    for place in ("measure", "tune"):
        monkeypatch.setattr(f"dqn_cli.experiments.benchmark.{place}.make_training", making)
    monkeypatch.setattr("dqn_cli.experiments.benchmark.tune.candidates", lambda *_: [(1, 2)])
    run = options(*PONG, "replay.capacity=1_000_000", "env.num_envs=2", "threads=1", config="atari/default")
    benchmark(run, 0.05)
    tune(run, 0.05, lambda text: None)
    assert made == ["compressed"] * len(made)
    assert len(made) > 1


@pytest.mark.parametrize(("config", "sizes"), [("cartpole", SMALL), ("atari/per", PONG)])
def test_every_part_and_the_whole(config, sizes):
    report = benchmark(options(*sizes, config=config), 0.05)
    assert [part.name for part in report.parts] == ["update", "sampling", "acting", "stepping"]
    assert all(0.0 < part.fast <= part.milliseconds <= part.slow for part in report.parts)
    assert report.steps_per_second > 0.0
    assert report.updates_per_second > 0.0
    assert report.share_outside_updates is not None
    assert 0.0 < report.share_outside_updates < 1.0
    assert report.limit_milliseconds > 0.0
    assert report.operations > 0
    for part in report.parts:
        assert part.of in report.text()


@pytest.mark.parametrize(("record", "noted"), [(repeating, False), (refusing, True)])
def test_recorded_kernels_are_counted_and_a_recording_that_is_given_up_is_said(monkeypatch, record, noted):
    """A recording starts its kernels where nobody sees them, so that they are counted in the plain way."""

    def unseen(function, generators):
        outputs, replay = record(function, generators)

        def without_looking() -> None:
            with _disable_current_modes():
                replay()

        return outputs, without_looking

    monkeypatch.setattr("dqn_cli.compose._recorder", lambda options, hardware: unseen if options.cuda_graphs else None)
    report = benchmark(options(*SMALL, "cuda_graphs=true"), 0.05)
    assert report.operations == benchmark(options(*SMALL), 0.05).operations > 0
    assert bool(report.notices) == noted
    assert ("kernels are started one by one" in report.text()) == noted


def test_updates_that_are_too_far_away_are_refused():
    far = options(*SMALL, "learning.update_every_steps=1_000_000_000")
    for measure in (benchmark, lambda run, seconds: tune(run, seconds, lambda text: None)):
        with pytest.raises(UsageError, match=r"learning.update_every_steps 1,000,000,000: .* give a smaller one"):
            measure(far, 0.05)


def test_the_budget_of_compressed_frames_is_that_of_the_small_replay():
    asked = options(*PONG, "replay.storage=compressed", "replay.compressed_bytes=100_000_000", config="atari/default")
    assert small(asked).replay.compressed_bytes is None


class TestTune:
    def test_candidates(self):
        assert candidates(options("env.num_envs=3"), (1, 3), 1) == [(1, 1), (1, 3), (1, 4), (1, 8), (1, 16)]
        found = candidates(
            options("replay={capacity: 20, n_step: 3, warmup_steps: 5}", "learning.batch_size=8"), (2, 4), 4
        )
        assert found == [(t, n) for t in (1, 2, 4) for n in (1, 4)]

    @given(st.lists(st.floats(1.0, 100.0), min_size=2, max_size=9), st.data())
    @settings(max_examples=100)
    def test_the_fastest_is_recommended_where_it_is_worth_it(self, speeds, data):
        found = {(1 + number, 4): (speed,) * 3 for number, speed in enumerate(speeds)}
        own = data.draw(st.integers(0, len(speeds) - 1))
        report = advise(found, (1 + own, 4))
        if max(speeds) >= WORTH * speeds[own]:
            assert report.advice.median == max(speeds)
            assert f"threads={report.advice.threads} env.num_envs=4" in report.text()
        else:
            assert report.advice == report.present
            assert "nothing tried is faster" in report.text()

    def test_choices_are_measured_in_alternation(self, monkeypatch):
        seen: list[tuple[int, int]] = []

        def speed(_: object, threads: int, environments: int, seconds: float) -> float:
            assert seconds == 0.5
            seen.append((threads, environments))
            return 10.0 * environments + random.random()

        monkeypatch.setattr("dqn_cli.experiments.benchmark.tune._speed", speed)
        monkeypatch.setattr("dqn_cli.experiments.benchmark.tune.available_cores", lambda: 1)
        told: list[str] = []
        report = tune(options("threads=1"), 0.5, told.append)
        assert Counter(seen) == dict.fromkeys([(1, n) for n in (1, 4, 8, 16)], 3)
        assert sorted(seen[:4]) == sorted(seen[4:8]) == sorted(seen[8:])
        assert (report.advice.num_envs, report.present.num_envs) == (16, 4)
        assert "scores may differ" in report.text()
        assert len(told) == 3


@pytest.mark.parametrize("arguments", [[], ["--tune"]])
def test_json(arguments, capfd, monkeypatch):
    from dqn_cli.cli.main import main

    monkeypatch.setattr("dqn_cli.experiments.benchmark.tune.available_cores", lambda: 1)
    monkeypatch.setattr("dqn_cli.experiments.benchmark.tune._ENVIRONMENTS", (2,))
    with pytest.raises(SystemExit) as end:
        main(["bench", "cartpole", *SMALL, "--seconds", "0.05", "--json", *arguments])
    out, _ = capfd.readouterr()
    assert end.value.code == 0
    document = json.loads(out)
    assert document["advice"] if arguments else document["parts"]
