"""Defects of the variants: heads, objectives, bootstraps, noise, torsos, augmentation, resets."""

from __future__ import annotations

from tests.mutants.defect import Defect

CATEGORICAL, QUANTILE = "dqn_cli/rules/categorical.py", "dqn_cli/rules/quantile.py"
MUNCHAUSEN, RESCALING = "dqn_cli/rules/munchausen.py", "dqn_cli/rules/rescaling.py"
OUTPUTS, IMPLICIT, NOISY = (f"dqn_cli/networks/{name}.py" for name in ("outputs", "implicit_quantile", "noisy"))
IMPALA, SPECTRAL = "dqn_cli/networks/impala.py", "dqn_cli/networks/spectral.py"
BOOTSTRAP, LEARNER, ACTOR = (f"dqn_cli/agent/{name}.py" for name in ("bootstrap", "learner", "actor"))
AUGMENTATION, RESETS = "dqn_cli/agent/augmentation.py", "dqn_cli/agent/resets.py"
OBJECTIVE, TARGETS = "dqn_cli/agent/objective.py", "dqn_cli/agent/targets.py"

VARIANT_DEFECTS = (
    Defect(
        "mass lost on the atom next to a target",
        CATEGORICAL,
        "torch.minimum(rising, falling)",
        "rising",
        "tests/rules/test_categorical.py",
    ),
    Defect(
        "targets beyond the support lose their mass",
        CATEGORICAL,
        "atoms.clamp(support[0], support[-1])",
        "atoms",
        "tests/rules/test_categorical.py",
    ),
    Defect(
        "atoms that ignore the discount",
        OUTPUTS,
        "replace(self, atoms=reward[:, None] + discount[:, None] * atoms)",
        "replace(self, atoms=reward[:, None] + atoms)",
        "tests/networks/test_outputs.py",
    ),
    Defect(
        "the projection of the prediction instead of the target",
        OBJECTIVE,
        "torch.softmax(aim.logits, 1)",
        "torch.softmax(predicted.logits.detach(), 1)",
        "tests/agent/test_objective.py",
    ),
    Defect(
        "tau on the wrong side",
        QUANTILE,
        "torch.where(theirs < ours, 1.0 - tau, tau)",
        "torch.where(theirs < ours, tau, 1.0 - tau)",
        "tests/rules/test_quantile.py",
    ),
    Defect(
        "the quantile loss summed over targets",
        QUANTILE,
        "/ (kappa * targets.shape[1])",
        "/ kappa",
        "tests/rules/test_quantile.py",
    ),
    Defect(
        "fractions shared by the batch",
        IMPLICIT,
        "torch.rand(batch, self._quantiles, generator=self._generator, device=self._generator.device)",
        "torch.rand(1, self._quantiles, generator=self._generator).expand(batch, -1)",
        "tests/networks/test_distributional_heads.py",
    ),
    Defect(
        "the fraction embedded without its ReLU",
        IMPLICIT,
        "torch.relu(self.embedding(cosines))",
        "self.embedding(cosines)",
        "tests/networks/test_distributional_heads.py",
    ),
    Defect(
        "the floor of Munchausen's bonus under alpha",
        MUNCHAUSEN,
        "alpha * (temperature * log_policy_of_action).clamp(floor, 0.0)",
        "(alpha * temperature * log_policy_of_action).clamp(floor, 0.0)",
        "tests/rules/test_munchausen.py",
    ),
    Defect(
        "Munchausen's entropy without the discount",
        BOOTSTRAP,
        "batch.discount * entropy_bonus(",
        "entropy_bonus(",
        "tests/agent/test_bootstrap.py",
    ),
    Defect(
        "Munchausen's policy of the next observation for the bonus",
        BOOTSTRAP,
        "here = target(batch.observation)",
        "here = target(batch.next_observation)",
        "tests/agent/test_bootstrap.py",
    ),
    Defect(
        "rewards added on the compressed scale",
        BOOTSTRAP,
        "prediction.map(lambda value: unrescale(value, eps))",
        "prediction",
        "tests/agent/test_bootstrap.py",
    ),
    Defect(
        "noise of its own for every weight",
        NOISY,
        "torch.outer(self.noise_out, self.noise_in)",
        "torch.randn(self.weight.shape)",
        "tests/networks/test_noisy.py",
    ),
    Defect(
        "noise left on in evaluation",
        NOISY,
        "if not self.training:",
        "if self.weight is None:",
        "tests/networks/test_noisy.py",
    ),
    Defect(
        "normal noise without its root",
        NOISY,
        "normal.abs().sqrt().copysign(normal)",
        "normal",
        "tests/networks/test_noisy.py",
    ),
    Defect("one noise for all updates", LEARNER, "self.online.resample()", "pass", "tests/agent/test_learner.py"),
    Defect(
        "one noise for the target network", LEARNER, "self.target.resample()", "pass", "tests/agent/test_learner.py"
    ),
    Defect(
        "acting with the noise of the last update",
        ACTOR,
        "self._network.resample()",
        "pass",
        "tests/agent/test_actor.py",
    ),
    Defect(
        "online and target network share their noise",
        "dqn_cli/compose.py",
        'noise="target noise"',
        'noise="online noise"',
        "tests/test_compose.py",
    ),
    Defect(
        "streams of noise that no checkpoint has",
        LEARNER,
        'generator.set_state(state["streams"][name])',
        "pass",
        "tests/agent/test_learner.py",
    ),
    Defect(
        "images shifted round their border",
        AUGMENTATION,
        "(torch.arange(height, device=device) + offsets[0]).clamp(0, height - 1)",
        "(torch.arange(height, device=device) + offsets[0]) % height",
        "tests/agent/test_augmentation.py",
    ),
    Defect(
        "one shift for the whole batch",
        AUGMENTATION,
        "self._pixels + 1, (2, batch, 1)",
        "self._pixels + 1, (2, 1, 1)",
        "tests/agent/test_augmentation.py",
    ),
    Defect(
        "a reset that leaves the target network",
        RESETS,
        "for network in (online, target):",
        "for network in (online,):",
        "tests/agent/test_resets.py",
    ),
    Defect(
        "a reset that keeps the optimiser's moments",
        RESETS,
        "gradient_step.forget((online.head if self._keep_torso == 1.0 else online).parameters())",
        "pass",
        "tests/agent/test_resets.py",
    ),
    Defect(
        "the inverse scale without its linear part",
        RESCALING,
        "linear = 1.0 + 2.0 * eps",
        "linear = 1.0",
        "tests/rules/test_rescaling.py",
    ),
    Defect(
        "the skip path rectified",
        IMPALA,
        "return images + residual",
        "return images.relu() + residual",
        "tests/networks/test_impala.py",
    ),
    Defect(
        "no ReLU after the last residual block",
        IMPALA,
        "layers.append(nn.ReLU())",
        "pass",
        "tests/networks/test_impala.py",
    ),
    Defect(
        "power iteration whenever the network acts",
        SPECTRAL,
        "if self.training and torch.is_grad_enabled():",
        "if self.training:",
        "tests/networks/test_spectral.py",
    ),
    Defect(
        "the singular value a constant of the gradient",
        SPECTRAL,
        "weight = self.weight / self.sigma()",
        "weight = self.weight / self.sigma().detach()",
        "tests/networks/test_spectral.py",
    ),
    Defect(
        "Polyak averaging leaves buffers behind",
        TARGETS,
        "                tensor.copy_(source[name])",
        "                pass",
        "tests/agent/test_targets.py",
    ),
    Defect(
        "value rescaling that does nothing",
        "dqn_cli/compose.py",
        "bellman if rescaling is None else rescaled(rescaling.eps)",
        "bellman",
        "tests/test_compose.py",
    ),
    Defect(
        "a torso that is always kept",
        "dqn_cli/compose.py",
        "resets.every_updates, resets.keep_torso, last",
        "resets.every_updates, 1.0, last",
        "tests/test_compose.py",
    ),
    Defect(
        "Munchausen's options swapped",
        "dqn_cli/build.py",
        "MunchausenBootstrap(o.alpha, o.temperature, o.floor)",
        "MunchausenBootstrap(o.temperature, o.alpha, o.floor)",
        "tests/test_compose.py",
    ),
    Defect(
        "the gap of the next observation",
        "dqn_cli/agent/advantage.py",
        "values = here.values()",
        "values = there.values()",
        "tests/agent/test_advantage.py",
    ),
    Defect("augmentations left out", LEARNER, "self._augmentations(batch)", "batch", "tests/agent/test_learner.py"),
    Defect(
        "the first augmentation of successors lost",
        AUGMENTATION,
        "step(successor, self.generator)",
        "step(batch.next_observation, self.generator)",
        "tests/agent/test_augmentation.py",
    ),
    Defect(
        "a mixture of quantiles that forgets the policy",
        OUTPUTS,
        "(policy[:, :, None] * quantiles).sum(1)",
        "quantiles.mean(1)",
        "tests/networks/test_distributional_heads.py",
    ),
)
