"""Augmentations of sampled batches, against padding and cropping written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dqn_cli.agent.augmentation import Augmentations, Intensity, RandomShift
from dqn_cli.core.rng import torch_stream
from dqn_cli.core.types import Batch
from tests.agent.toys import random_batch


def generator(name: str = "augmentation") -> torch.Generator:
    return torch_stream(0, name)


def images(batch: int = 64, stack: int = 3, height: int = 9, width: int = 7) -> Tensor:
    return torch.randint(256, (batch, stack, height, width), generator=generator("images"), dtype=torch.uint8)


def crops(image: Tensor, pixels: int) -> dict[tuple[int, int], Tensor]:
    """Returns every crop of the image padded with its border, by the shift (down, right) of the window."""
    height, width = image.shape[-2:]
    padded = torch.nn.functional.pad(image[None].float(), [pixels] * 4, mode="replicate")[0].to(image.dtype)
    return {
        (down - pixels, right - pixels): padded[:, down : down + height, right : right + width]
        for down in range(2 * pixels + 1)
        for right in range(2 * pixels + 1)
    }


class TestRandomShift:
    @pytest.mark.parametrize("pixels", [1, 2, 4])
    def test_each_observation_is_a_crop_of_the_padded_one(self, pixels):
        before = images()
        after = RandomShift(pixels)(before, generator())
        assert after.dtype == torch.uint8
        assert after.shape == before.shape
        for image, shifted in zip(before, after, strict=True):
            assert any(torch.equal(shifted, crop) for crop in crops(image, pixels).values())

    def test_all_shifts_occur_equally_often(self):
        shift, image = RandomShift(1), images(1)[0]
        shifted = shift(image.expand(9_000, *image.shape), generator())
        counts = [(shifted == crop).flatten(1).all(1).sum().item() for crop in crops(image, 1).values()]
        assert sum(counts) == 9_000
        # Chi-square with 8 degrees of freedom: 1 in 10,000 lies above 32.
        assert sum((count - 1_000) ** 2 / 1_000 for count in counts) < 32

    def test_channels_of_stacked_color_frames_move_together(self):
        before = images().view(64, 1, 3, 9, 7).expand(-1, 2, -1, -1, -1)
        after = RandomShift(3)(before, generator())
        assert after.shape == before.shape
        assert torch.equal(after[:, 0], after[:, 1])

    def test_a_shift_beyond_the_image_repeats_its_border(self):
        after = RandomShift(50)(images(), generator())
        assert after.shape == (64, 3, 9, 7)


class TestIntensity:
    def test_one_factor_an_observation(self):
        before = images().float() + 1.0
        ratios = (Intensity(0.05)(before, generator()) / before).flatten(1)
        torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios))
        assert len(set(ratios[:, 0].tolist())) > 32

    def test_factors_are_clipped_normal_around_one(self):
        factors = Intensity(0.05)(torch.ones(20_000, 1), generator())[:, 0]
        assert factors.min() == pytest.approx(0.9)
        assert factors.max() == pytest.approx(1.1)
        assert factors.mean().item() == pytest.approx(1.0, abs=0.002)
        # The standard deviation of a normal that is cut to [-2, 2] is 0.959.
        assert factors.std().item() == pytest.approx(0.05 * 0.959, rel=0.02)

    def test_pixels_keep_their_range_and_become_numbers_that_can_be_scaled(self):
        after = Intensity(0.05)(images(), generator())
        assert after.dtype == torch.float32


class TestAugmentations:
    def batch(self) -> Batch:
        same = images(16)
        return replace(random_batch(0), observation=same, next_observation=same)

    def test_both_sides_are_changed_and_nothing_else(self):
        batch = self.batch()
        changed = Augmentations([RandomShift(2), Intensity(0.1)], generator())(batch)
        assert not torch.equal(changed.observation, batch.observation)
        assert not torch.equal(changed.next_observation, batch.next_observation)
        for name in ("action", "reward", "discount", "weight", "key"):
            assert getattr(changed, name) is getattr(batch, name)

    def test_augmentations_follow_each_other_on_both_sides(self):
        def twice(observation: Tensor, _: torch.Generator) -> Tensor:
            return observation * 2.0

        def one_more(observation: Tensor, _: torch.Generator) -> Tensor:
            return observation + 1.0

        batch = self.batch()
        changed = Augmentations([twice, one_more], generator())(batch)
        for after, before in (
            (changed.observation, batch.observation),
            (changed.next_observation, batch.next_observation),
        ):
            assert torch.equal(after, before * 2.0 + 1.0)

    def test_the_two_sides_are_changed_independently(self):
        changed = Augmentations([RandomShift(2)], generator())(self.batch())
        assert not torch.equal(changed.observation, changed.next_observation)

    def test_each_batch_is_changed_anew(self):
        augment = Augmentations([RandomShift(2)], generator())
        assert not torch.equal(augment(self.batch()).observation, augment(self.batch()).observation)

    def test_without_any_the_batch_stays_itself(self):
        batch = self.batch()
        assert Augmentations([], generator())(batch) is batch

    def test_the_global_stream_is_left_alone(self):
        before = torch.random.get_rng_state()
        Augmentations([RandomShift(2), Intensity(0.1)], generator())(self.batch())
        assert torch.equal(before, torch.random.get_rng_state())
