"""Distributions on fixed atoms, against numbers worked out by hand and the loops of the paper's Algorithm 1."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.rules.categorical import cross_entropy, expected_value, project

SUPPORT = torch.tensor([0.0, 1.0, 2.0])


def projected(atoms: list[float], probabilities: list[float], support: torch.Tensor = SUPPORT) -> list[float]:
    found: list[float] = project(torch.tensor([atoms]), torch.tensor([probabilities]), support)[0].tolist()
    return found


def algorithm_1(atoms: list[float], probabilities: list[float], low: float, high: float, count: int) -> list[float]:
    """Bellemare et al. 2017, with the mass of a target that falls on an atom, which their l = u loses."""
    found = [0.0] * count
    for atom, probability in zip(atoms, probabilities, strict=True):
        place = (min(max(atom, low), high) - low) / (high - low) * (count - 1)
        below, above = math.floor(place), math.ceil(place)
        if below == above:
            found[below] += probability
        else:
            found[below] += probability * (above - place)
            found[above] += probability * (place - below)
    return found


@st.composite
def distributions(draw):
    """Atoms, probabilities and the ends and size of the support that they go to; half of them lie on its atoms."""
    count, low, width = draw(st.integers(2, 60)), draw(st.floats(-50, 50)), draw(st.floats(0.1, 100))
    on_atoms = st.integers(0, count - 1).map(lambda i: low + i * (width / (count - 1)))
    atoms = draw(st.lists(st.one_of(on_atoms, st.floats(low - width, low + 2 * width)), min_size=1, max_size=20))
    weights = draw(st.lists(st.floats(0.01, 1.0), min_size=len(atoms), max_size=len(atoms)))
    return atoms, [weight / sum(weights) for weight in weights], low, low + width, count


class TestProject:
    def test_targets_on_atoms_stay(self):
        assert projected([0.0, 1.0, 2.0], [0.25, 0.5, 0.25]) == [0.25, 0.5, 0.25]
        assert projected([2.0, 0.0, 0.0], [0.25, 0.5, 0.25]) == [0.75, 0.0, 0.25]

    def test_targets_between_atoms_are_shared_by_nearness(self):
        assert projected([0.25], [1.0]) == [0.75, 0.25, 0.0]
        assert projected([0.5, 1.75], [0.5, 0.5]) == [0.25, 0.375, 0.375]

    def test_what_lies_beyond_the_ends_goes_to_the_ends(self):
        assert projected([-0.5, 2.25], [0.25, 0.75]) == [0.25, 0.0, 0.75]
        assert projected([-math.inf, -1e30, 1e30, math.inf], [0.125, 0.25, 0.5, 0.125]) == [0.375, 0.0, 0.625]

    def test_a_terminal_target_is_one_point(self):
        assert projected([1.25] * 4, [0.25] * 4) == [0.0, 0.75, 0.25]

    def test_two_atoms(self):
        support = torch.tensor([-10.0, 10.0])
        assert projected([-5.0, 0.0, 30.0], [0.5, 0.25, 0.25], support) == [0.5, 0.5]

    @pytest.mark.parametrize(
        ("low", "high", "count"), [(-10, 10, 51), (0, 1, 52), (990.1, 1000.7, 64), (-0.3, 0.7, 11)]
    )
    def test_targets_on_rounded_atoms_keep_every_bit(self, low, high, count):
        support, mass = torch.linspace(low, high, count), torch.eye(count)
        assert torch.equal(project(support.expand(count, count), mass, support), mass)

    @given(distributions())
    def test_agrees_with_the_loops_of_the_paper(self, case):
        atoms, probabilities, low, high, count = case
        support = torch.linspace(low, high, count, dtype=torch.float64)
        found = project(torch.tensor([atoms], dtype=torch.float64), torch.tensor([probabilities]).double(), support)
        assert found[0].tolist() == pytest.approx(algorithm_1(atoms, probabilities, low, high, count), abs=1e-6)

    @given(distributions())
    def test_keeps_the_mass_and_inside_the_ends_the_mean(self, case):
        atoms, probabilities, low, high, count = case
        support = torch.linspace(low, high, count)
        found = project(torch.tensor([atoms]), torch.tensor([probabilities]), support)[0]
        assert found.min() >= 0.0
        assert found.sum().item() == pytest.approx(1.0, abs=2e-6)
        clipped = [min(max(atom, low), high) for atom in atoms]
        mean = sum(p * atom for p, atom in zip(probabilities, clipped, strict=True))
        assert (found * support).sum().item() == pytest.approx(mean, rel=1e-5, abs=1e-4)

    def test_rows_do_not_mix(self):
        atoms, probabilities = torch.tensor([[0.0, 0.5], [1.0, 9.0]]), torch.tensor([[0.5, 0.5], [0.25, 0.75]])
        assert project(atoms, probabilities, SUPPORT).tolist() == [[0.75, 0.25, 0.0], [0.0, 0.25, 0.75]]

    @pytest.mark.parametrize(
        ("atoms", "probabilities", "support"),
        [
            ((2, 3), (2, 1), (3,)),
            ((1, 3), (2, 3), (3,)),
            ((3,), (3,), (3,)),
            ((2, 3, 1), (2, 3, 1), (3,)),
            ((2, 3), (2, 3), (2, 3)),
            ((2, 3), (2, 3), (1,)),
        ],
    )
    def test_shapes_are_checked(self, atoms, probabilities, support):
        with pytest.raises(ValueError, match=r"expected atoms \[B, K\].*got \(.*\), \(.*\) and \(.*\)"):
            project(torch.zeros(atoms), torch.zeros(probabilities), torch.zeros(support))


class TestCrossEntropy:
    def test_by_hand(self):
        logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])
        target = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
        expected = [math.log(4), 0.25 * math.log(4) + 0.75 * math.log(4 / 3)]
        assert cross_entropy(target, logits).tolist() == pytest.approx(expected, rel=1e-6)

    def test_its_gradient_is_the_softmax_less_the_target(self):
        logits, target = torch.tensor([[0.0, math.log(3.0)]], requires_grad=True), torch.tensor([[0.5, 0.5]])
        (found,) = torch.autograd.grad(cross_entropy(target, logits).sum(), logits)
        assert found[0].tolist() == pytest.approx([-0.25, 0.25])

    def test_large_logits_do_not_overflow(self):
        logits = torch.tensor([[1e4, 1e4 - 500.0]])
        assert cross_entropy(torch.tensor([[0.5, 0.5]]), logits).tolist() == [250.0]

    @pytest.mark.parametrize(("target", "logits"), [((2, 3), (2, 1)), ((1, 3), (2, 3)), ((3,), (3,)), ((2, 1, 3),) * 2])
    def test_shapes_are_checked(self, target, logits):
        with pytest.raises(ValueError, match=r"one shape \[B, K\], got \(.*\) and \(.*\)"):
            cross_entropy(torch.zeros(target), torch.zeros(logits))


class TestExpectedValue:
    def test_by_hand(self):
        logits = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 50.0]], [[math.log(3.0), 0.0, -50.0], [50.0, 0.0, 0.0]]])
        found = expected_value(logits, torch.tensor([-1.0, 0.0, 4.0]))
        assert found.flatten().tolist() == pytest.approx([1.0, 4.0, -0.75, -1.0])
        assert found.shape == (2, 2)

    def test_of_one_distribution(self):
        assert expected_value(torch.zeros(3), SUPPORT).item() == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("logits", "support"), [((2, 3), (1,)), ((2, 1), (3,)), ((3, 2), (3,)), ((2, 3), (2, 3)), ((), (1,))]
    )
    def test_shapes_are_checked(self, logits, support):
        with pytest.raises(ValueError, match=r"expected logits \[\.\.\., K\].*got \(.*\) and \(.*\)"):
            expected_value(torch.zeros(logits), torch.zeros(support))
