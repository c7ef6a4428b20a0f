"""The defects: what DQN codes get wrong, each as one line of ours changed."""

from __future__ import annotations

from typing import NamedTuple

WRITER, BUFFER, ITEMS = "dqn_cli/replay/writer.py", "dqn_cli/replay/buffer.py", "dqn_cli/replay/items.py"
FRAMES, SAMPLERS, VECTOR = "dqn_cli/replay/frames.py", "dqn_cli/replay/samplers.py", "dqn_cli/envs/vector.py"
ATARI, LEARNER, EXPLORER = "dqn_cli/envs/atari.py", "dqn_cli/agent/learner.py", "dqn_cli/agent/explorer.py"
PRIORITIZED, SUM_TREE = "dqn_cli/replay/prioritized.py", "dqn_cli/replay/sum_tree.py"
TD, OPTIMIZERS, TARGETS = "dqn_cli/rules/td.py", "dqn_cli/agent/optimizers.py", "dqn_cli/agent/targets.py"


class Defect(NamedTuple):
    """One wrong line.

    Attributes:
        name: What it does wrong, in words.
        file: Where.
        right: What stands there, once.
        wrong: What the defect puts in its place.
        tests: The tests that must fail.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: str


DEFECTS = (
    Defect(
        "gamma^n for gamma^k",
        WRITER,
        "self._powers[age[window] + 1]",
        "self._powers[-1]",
        "tests/replay/test_writer.py",
    ),
    Defect(
        "truncation as termination",
        WRITER,
        "np.where(terminal[env]",
        "np.where((terminal | truncated)[env]",
        "tests/replay/test_writer.py",
    ),
    Defect(
        "the last n-1 starts of an episode lost",
        WRITER,
        "((terminal | truncated)[:, None] | (age == self._n_step - 1))",
        "(age == self._n_step - 1)",
        "tests/replay/test_writer.py",
    ),
    Defect(
        "rewards clipped in the sum",
        WRITER,
        "reward=self._reward[env, window].astype(np.float32)",
        "reward=np.clip(self._reward[env, window], -1, 1).astype(np.float32)",
        "tests/replay/test_writer.py",
    ),
    Defect(
        "rewards not clipped",
        WRITER,
        "reward = np.clip(reward, -self._reward_clip, self._reward_clip)",
        "pass",
        "tests/replay/test_writer.py",
    ),
    Defect(
        "rewards discounted one step too much",
        WRITER,
        "self._powers[age] * reward",
        "self._powers[age + 1] * reward",
        "tests/replay/test_writer.py",
    ),
    Defect(
        "the newest frame at the wrong end of the stack",
        WRITER,
        "next_stack[:, -1] = successor",
        "next_stack[:, 0] = successor",
        "tests/replay/test_buffer.py",
    ),
    Defect("stacks across episodes", WRITER, "self._current[rows] = BLANK", "pass", "tests/replay/test_buffer.py"),
    Defect(
        "items kept one vector step too long",
        BUFFER,
        "[1] * (history + 1)",
        "[1] * history",
        "tests/replay/test_buffer.py",
    ),
    Defect(
        "items kept without their frames",
        BUFFER,
        "self.items.expire(self.frames.written - self.frames.capacity + 1)",
        "pass",
        "tests/replay/test_buffer.py",
    ),
    Defect(
        "the next episode's first frame as successor",
        BUFFER,
        "ids = self.frames.append(successor[:, -1])",
        "ids = self.frames.append(observation[:, -1])",
        "tests/replay/test_buffer.py",
    ),
    Defect(
        "observation and successor swapped",
        BUFFER,
        "observation=both[:batch_size]",
        "observation=both[batch_size:]",
        "tests/replay/test_buffer.py",
    ),
    Defect(
        "one item fewer than fits",
        ITEMS,
        "self.head - self.capacity)",
        "self.head - self.capacity + 1)",
        "tests/replay/test_items.py tests/replay/test_buffer.py",
    ),
    Defect(
        "the blank frame overwritten",
        FRAMES,
        "% self.capacity) + 1)",
        "% self.capacity))",
        "tests/replay/test_frames.py",
    ),
    Defect(
        "the newest item never drawn",
        SAMPLERS,
        "self._rng.integers(self._tail, self._head, batch_size)",
        "self._rng.integers(self._tail, max(self._tail + 1, self._head - 1), batch_size)",
        "tests/replay/test_samplers.py",
    ),
    Defect(
        "the priority's exponent applied twice",
        PRIORITIZED,
        "priorities[living] ** self._alpha",
        "priorities[living] ** self._alpha ** 2",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "the priority's exponent applied again to a loaded state",
        PRIORITIZED,
        'state["priorities"].detach().numpy())',
        'state["priorities"].detach().numpy() ** self._alpha)',
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "new priorities without their exponent",
        PRIORITIZED,
        "self._maximum**self._alpha",
        "self._maximum",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "an error of zero is never drawn again",
        PRIORITIZED,
        "priorities = errors + self._eps",
        "priorities = errors",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "new items at priority 1 instead of the maximum",
        PRIORITIZED,
        "self._maximum**self._alpha",
        "1.0",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "the largest priority of the latest batch for the largest seen",
        PRIORITIZED,
        "priorities.max(initial=self._maximum)",
        "priorities.max(initial=1.0)",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "the largest priority lost on resume",
        PRIORITIZED,
        'self._tail, self._head, self._maximum = state["tail"], state["head"], state["maximum"]',
        'self._tail, self._head = state["tail"], state["head"]',
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "priorities of items that have left are kept",
        PRIORITIZED,
        "gone = np.arange(self._tail, min(tail, self._head))",
        "gone = np.arange(0)",
        "tests/replay/test_prioritized.py tests/replay/test_buffer.py",
    ),
    Defect(
        "an item that leaves takes the priority of a new one with it",
        PRIORITIZED,
        "self._tree.set(np.concatenate((gone, born)) % self._capacity, values)",
        "self._tree.set(np.concatenate((born, gone)) % self._capacity, values[::-1])",
        "tests/replay/test_prioritized.py tests/replay/test_buffer.py",
    ),
    Defect(
        "items that came and left between two calls get a priority",
        PRIORITIZED,
        "born = np.arange(max(tail, self._head), head)",
        "born = np.arange(self._head, head)",
        "tests/replay/test_prioritized.py tests/replay/test_buffer.py",
    ),
    Defect(
        "late priorities go to the items that came after",
        PRIORITIZED,
        "living = (keys >= self._tail) & (keys < self._head)",
        "living = keys < self._head",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "keys counted from the leaf and not from the oldest item",
        PRIORITIZED,
        "self._tail + (positions - self._tail) % self._capacity",
        "self._tail + positions % self._capacity",
        "tests/replay/test_prioritized.py tests/replay/test_buffer.py",
    ),
    Defect(
        "prioritized draws without slices",
        PRIORITIZED,
        "slices = np.arange(batch_size) + self._rng.random(batch_size)",
        "slices = batch_size * self._rng.random(batch_size)",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "one random offset for all slices",
        PRIORITIZED,
        "slices = np.arange(batch_size) + self._rng.random(batch_size)",
        "slices = np.arange(batch_size) + self._rng.random()",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "importance weights not normalised",
        PRIORITIZED,
        "(values.min() / values) ** self._beta(step)",
        "(self._tree.total / (self._head - self._tail) / values) ** self._beta(step)",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "importance weights normalised by the mean",
        PRIORITIZED,
        "(values.min() / values) ** self._beta(step)",
        "(values.mean() / values) ** self._beta(step)",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "importance weights the wrong way round",
        PRIORITIZED,
        "(values.min() / values)",
        "(values / values.max())",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "beta by the size of the batch",
        PRIORITIZED,
        "self._beta(step)",
        "self._beta(batch_size)",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "beta that is never annealed",
        "dqn_cli/training/loop.py",
        "self._replay.sample(self._batch_size, self.step)",
        "self._replay.sample(self._batch_size, 0)",
        "tests/replay/test_prioritized.py",
    ),
    Defect(
        "of several priorities for one item the first wins",
        SUM_TREE,
        "self._leaves[np.ascontiguousarray(positions)] = np.ascontiguousarray(values)",
        "self._leaves[positions[::-1]] = values[::-1]",
        "tests/replay/test_sum_tree.py",
    ),
    Defect(
        "an update that names a leaf twice counts it twice",
        SUM_TREE,
        "above.reshape(-1)[nodes] = level.take(nodes, 0).sum(1)",
        "np.add.at(above.reshape(-1), nodes, level.take(nodes, 0).sum(1) - above.reshape(-1)[nodes])",
        "tests/replay/test_sum_tree.py",
    ),
    Defect(
        "a target at the start of a share finds the one before",
        SUM_TREE,
        "(ends > targets[:, None]).argmax(1)",
        "(ends >= targets[:, None]).argmax(1)",
        "tests/replay/test_sum_tree.py",
    ),
    Defect(
        "rounding leads to a leaf of zero",
        SUM_TREE,
        "targets = np.minimum(targets, np.nextafter(ends[:, -1], 0.0))",
        "targets = np.minimum(targets, ends[:, -1])",
        "tests/replay/test_sum_tree.py",
    ),
    Defect(
        "the sums near the root are not renewed",
        SUM_TREE,
        "in pairwise(self._levels):",
        "in list(pairwise(self._levels))[:2]:",
        "tests/replay/test_sum_tree.py",
    ),
    Defect(
        "the old episode's last frame to act on",
        VECTOR,
        "observation[ended] = reset.observation[ended]",
        "pass",
        "tests/envs/test_vector.py tests/envs/test_gymnasium.py",
    ),
    Defect(
        "every step of a game with lives is terminal",
        VECTOR,
        "(step.lives < self._lives)",
        "(step.lives <= self._lives)",
        "tests/envs/test_vector.py",
    ),
    Defect(
        "a lost life ends the game",
        VECTOR,
        "ended = step.terminated | truncated",
        "ended = terminal | truncated",
        "tests/envs/test_vector.py",
    ),
    Defect(
        "termination that is truncated too bootstraps",
        VECTOR,
        "truncated = truncated & ~terminal",
        "terminal = terminal & ~truncated",
        "tests/envs/test_vector.py",
    ),
    Defect(
        "the frame cap a step early",
        VECTOR,
        "steps_left = -(-frames_left // self._spec.frames_per_step)",
        "steps_left = frames_left // self._spec.frames_per_step",
        "tests/envs/test_vector.py",
    ),
    Defect(
        "one coin for all environments",
        EXPLORER,
        "self._rng.random(self._num_envs)",
        "np.full(self._num_envs, self._rng.random())",
        "tests/agent/test_explorer.py",
    ),
    Defect(
        "epsilon the wrong way round",
        EXPLORER,
        "return coins < self._schedule(step), actions",
        "return coins > self._schedule(step), actions",
        "tests/agent/test_explorer.py",
    ),
    Defect(
        "epsilon decays during warm-up",
        "dqn_cli/core/schedules.py",
        "* (step - self.begin_steps) / self.over_steps",
        "* step / self.over_steps",
        "tests/core/test_schedules.py",
    ),
    Defect(
        "updates during warm-up",
        "dqn_cli/training/pacing.py",
        "max(0, step - self.begin_steps) // self.every_steps",
        "step // self.every_steps",
        "tests/training/test_pacing.py",
    ),
    Defect(
        "double DQN without its point",
        "dqn_cli/agent/bootstrap.py",
        "action = chosen.values().argmax(1)",
        "action = valued.values().argmax(1)",
        "tests/agent/test_bootstrap.py",
    ),
    Defect(
        "targets from the online network",
        "dqn_cli/agent/bootstrap.py",
        "output: Output = target(batch.next_observation)",
        "output: Output = online(batch.next_observation)",
        "tests/agent/test_bootstrap.py",
    ),
    Defect(
        "a target without its discount",
        TD,
        "return reward + discount * next_value",
        "return reward + next_value",
        "tests/rules/test_td.py",
    ),
    Defect(
        "the loss clipped instead of the error",
        TD,
        'torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)',
        "(0.5 * error.square()).clamp(max=delta)",
        "tests/rules/test_td.py",
    ),
    Defect(
        "the first action's value for every action",
        TD,
        "torch.gather(values, 1, action.unsqueeze(1)).squeeze(1)",
        "values[:, 0]",
        "tests/rules/test_td.py",
    ),
    Defect(
        "importance weights ignored",
        LEARNER,
        "(batch.weight * losses).mean()",
        "losses.mean()",
        "tests/agent/test_learner.py",
    ),
    Defect(
        "gradients of the update before kept",
        "dqn_cli/agent/gradient_step.py",
        "parameter.grad = None",
        "pass",
        "tests/agent/test_learner.py",
    ),
    Defect(
        "the target network copied an update late",
        TARGETS,
        "if updates % self._every == 0:",
        "if updates % self._every == 1:",
        "tests/agent/test_targets.py",
    ),
    Defect(
        "target copies counted in frames",
        TARGETS,
        "self._periods = step // self._every",
        "self._periods = 4 * step // self._every",
        "tests/agent/test_targets.py",
    ),
    Defect(
        "RMSProp's epsilon outside the root",
        OPTIMIZERS,
        'variances = torch._foreach_add(squares, group["eps"])',
        'variances = torch._foreach_add(squares, group["eps"] ** 2)',
        "tests/agent/test_optimizers.py",
    ),
    Defect(
        "Adam without bias correction",
        OPTIMIZERS,
        "torch._foreach_add_(steps, 1)",
        "torch._foreach_add_(steps, 1_000_000)",
        "tests/agent/test_optimizers.py",
    ),
    Defect("gradients scaled up to the limit", OPTIMIZERS, ".clamp(max=1.0)", "", "tests/agent/test_optimizers.py"),
    Defect(
        "dueling advantages centred over the batch",
        "dqn_cli/networks/heads.py",
        "advantage.mean(1, keepdim=True)",
        "advantage.mean(0, keepdim=True)",
        "tests/networks/test_heads.py",
    ),
    Defect(
        "no sticky actions",
        ATARI,
        '"repeat_action_probability": protocol.sticky',
        '"repeat_action_probability": 0.0',
        "tests/envs/test_atari.py",
    ),
    Defect(
        "the emulator clips rewards",
        ATARI,
        '"reward_clipping": False',
        '"reward_clipping": True',
        "tests/envs/test_atari.py",
    ),
    Defect(
        "frames without the maximum over two", ATARI, '"maxpool": True', '"maxpool": False', "tests/envs/test_atari.py"
    ),
    Defect(
        "environments that play the same episodes",
        "dqn_cli/envs/lineage.py",
        '"environment", env_index, episode)',
        '"environment", episode)',
        "tests/envs/test_lineage.py",
    ),
)
