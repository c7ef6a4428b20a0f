"""Ten kills in a corner of CartPole and one of Atari; ``make crash-test`` has more of both."""

from __future__ import annotations

import random

import pytest

from tests.crash.campaign import Campaign, overrides_of, zygote


@pytest.fixture(scope="module")
def starter():
    with zygote() as made:
        yield made


@pytest.mark.parametrize(
    ("corner", "kills"),
    [((False, True, 3, 8, "sync"), 5), ((False, False, 1, 1, "async"), 2), ((True, True, 3, 8, "sync"), 3)],
    ids=["cartpole", "cartpole async", "atari"],
)
def test_a_run_that_is_killed_ends_as_one_that_is_not(corner, kills, tmp_path, starter):
    rng = random.Random(kills)
    config, overrides = overrides_of(*corner)
    campaign = Campaign(config, overrides, tmp_path, starter)
    for _ in range(kills):
        campaign.kill(rng)
    assert campaign.finish() == [], campaign.kills
