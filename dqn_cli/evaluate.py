"""Evaluation of a network or a checkpoint under a stated protocol."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from typing import Any, cast

from dqn_cli.agent.actor import greedy_actions
from dqn_cli.compose import environment_spec, is_unproven, make_environments, make_network, network_shape
from dqn_cli.config.problems import validate
from dqn_cli.core.errors import RunError, UsageError
from dqn_cli.envs.lineage import EpisodeQueue
from dqn_cli.evaluation.atari_scores import human_normalized
from dqn_cli.evaluation.episodes import PlayedEpisode, episode_seeds, play_episodes
from dqn_cli.evaluation.protocol import MAX_EPISODE_FRAMES, EvaluationProtocol
from dqn_cli.evaluation.statistics import ScoreSummary, summarize
from dqn_cli.hardware import Hardware, resolve_hardware
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.schema import RunOptions
from dqn_cli.training.checkpoint import Checkpoint
from dqn_cli.training.weights import check_weights

MAX_PARALLEL = 16
"""Most environments that play at once."""

_FAR_REACHING = ("RecordVideo", "HumanRendering", "AddRenderObservation", "RenderCollection")
"""Wrappers that do more than change numbers."""

_NOT_OF_THE_PROTOCOL = ("num_envs", "threads", "vectorization", "terminal_on_life_loss", "max_episode_frames")
"""Options of environments that no score depends on, or that the protocol names itself."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A score and the protocol it was measured under.

    Attributes:
        protocol: What the score depends on.
        episodes: Every episode of the fixed set.
        summary: Statistics of the returns.
        human_normalized: Mean return on the scale where random play is 0 and a human 1; None without reference.
    """

    protocol: EvaluationProtocol
    episodes: tuple[PlayedEpisode, ...]
    summary: ScoreSummary
    human_normalized: float | None

    @property
    def stalled(self) -> int:
        """Number of episodes that ran into the frame cap."""
        cap = self.protocol.max_episode_frames
        return sum(not episode.terminated and episode.frames >= cap for episode in self.episodes)

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, as ``dqn eval --json`` prints them."""
        summary = asdict(self.summary)
        return {
            **summary,
            "return_ci95": list(summary["return_ci95"]),
            "returns": [episode.score for episode in self.episodes],
            "lengths": [episode.length for episode in self.episodes],
            "stalled": self.stalled,
            "human_normalized": self.human_normalized,
            "protocol": self.protocol.as_dict(),
        }

    def text(self, checkpoint: str, step: int) -> str:
        """Returns the score for people."""
        summary, protocol = self.summary, self.protocol
        low, high = summary.return_ci95
        lines = [
            ("checkpoint", f"{checkpoint}, step {step:,}"),
            ("return", f"mean {summary.return_mean:.2f}, std {summary.return_std:.2f}"),
            ("", f"median {summary.return_median:.2f}, interquartile mean {summary.return_iqm:.2f}"),
            ("", f"95% interval of the mean {low:.2f} to {high:.2f}"),
        ]
        if self.human_normalized is not None:
            lines.append(("", f"human-normalised {self.human_normalized:.3f}"))
        lines.append(
            (
                "protocol",
                f"{protocol.episodes} episodes, epsilon {protocol.epsilon:g}, seed {protocol.seed}, "
                f"at most {protocol.max_episode_frames:,} frames each, stamp {protocol.stamp}",
            )
        )
        if self.stalled:
            lines.append(("stalled", f"{self.stalled} episodes ran into that cap"))
        return "\n".join(f"{label:>12}  {text}" for label, text in lines)


class Evaluator:
    """Evaluates networks of one run on one fixed set of episodes.

    Args:
        options: Options of the run.
        hardware: Where networks live.
        episodes: Size of the set.
        epsilon: Probability of a random action.
        seed: Seed of the set.
        purpose: Names the set; those of training and of final scores are different episodes.
    """

    def __init__(
        self, options: RunOptions, hardware: Hardware, episodes: int, epsilon: float, seed: int, purpose: str
    ) -> None:
        num_envs = min(episodes, MAX_PARALLEL)
        self._options = options.model_copy(update={"env": options.env.model_copy(update={"num_envs": num_envs})})
        self._hardware = hardware
        self._seeds = episode_seeds(seed, episodes, purpose)
        environment = options.env.model_dump(mode="json", exclude=set(_NOT_OF_THE_PROTOCOL))
        cap = min(getattr(options.env, "max_episode_frames", MAX_EPISODE_FRAMES), MAX_EPISODE_FRAMES)
        self._protocol = EvaluationProtocol(
            environment, purpose, episodes, epsilon, seed, cap, hardware.precision, _software(options)
        )

    def evaluate(self, network: QNetwork, stopped: Callable[[], bool] = lambda: False) -> Evaluation | None:
        """Plays the whole set with ``network``; None if ``stopped`` became true before its end.

        Raises:
            RunError: The environment failed, or its rewards do not sum to a finite number.
            UsageError: The environment cannot be made.
        """
        queue = EpisodeQueue(self._seeds)
        environments = make_environments(self._options, queue, self._protocol.max_episode_frames)
        was_training = network.training
        network.eval()
        try:
            greedy = partial(greedy_actions, network, device=self._hardware.device)
            played = play_episodes(environments, queue, self._seeds, greedy, self._protocol.epsilon, stopped)
        finally:
            environments.close()
            network.train(was_training)
        if played is None:
            return None
        for episode in played:
            if not math.isfinite(episode.score):
                raise RunError(
                    f"the evaluation episode with seed {episode.seed} has the return {episode.score}: rewards of "
                    f"'{environments.spec.name}' must be finite numbers; mend the environment"
                )
        summary = summarize([episode.score for episode in played])
        game = environments.spec.atari_game
        normalized = None if game is None else human_normalized(game, summary.return_mean)
        return Evaluation(self._protocol, tuple(played), summary, normalized)


def load_network(checkpoint: Checkpoint, options: RunOptions, hardware: Hardware) -> QNetwork:
    """Returns the network of a checkpoint.

    Raises:
        UsageError: The weights do not fit the network that the checkpoint's own config describes.
    """
    spec, whose = environment_spec(options), "its own config describes"
    # Without memory first: a config may describe a network that is larger than the machine.
    check_weights(network_shape(options, spec, hardware), checkpoint, whose)
    network = make_network(options, spec, hardware)
    network.load_state_dict(checkpoint.weights)
    if is_unproven(hardware):
        network.give_up_written_out()  # nothing is learnt, so there is little to gain and no trial
    return network


def final_evaluation(
    checkpoint: Checkpoint, episodes: int, epsilon: float | None, seed: int, device: str, trust: bool = False
) -> Evaluation:
    """Evaluates a checkpoint on episodes that training never saw.

    Args:
        checkpoint: What to evaluate; it describes itself.
        episodes: Size of the set.
        epsilon: Probability of a random action; None: as in the evaluations of its training.
        seed: Seed of the set.
        device: As in a config.
        trust: Import the modules that the checkpoint's config names.

    Raises:
        UsageError: The config names a module and is not trusted, or the weights do not fit it.
    """
    options = checkpoint_options(checkpoint, device)
    if not trust:
        _refuse_imports(options, checkpoint)
    hardware = resolve_hardware(options)
    hardware.apply()
    network = load_network(checkpoint, options, hardware)
    if epsilon is None:
        epsilon = options.evaluation.epsilon
    evaluation = Evaluator(options, hardware, episodes, epsilon, seed, "evaluation").evaluate(network)
    assert evaluation is not None  # nothing stops it
    return evaluation


def _refuse_imports(options: RunOptions, checkpoint: Checkpoint) -> None:
    """Refuses a config that would import a module of its own choice, open windows or write files."""
    env = cast("Any", options.env)
    for key, name, module in _named_modules(env):
        if module:
            raise UsageError(
                f"{checkpoint.path}: its {key} '{name}' imports the Python module '{module}', which runs that "
                "module's code; add --trust if you know where the checkpoint comes from"
            )
        if name in _FAR_REACHING:
            raise UsageError(
                f"{checkpoint.path}: its {key} '{name}' opens windows or writes files; add --trust to allow"
            )
    if "render_mode" in getattr(env, "kwargs", {}):
        raise UsageError(f"{checkpoint.path}: its env.kwargs ask for a render_mode; add --trust to allow it")


def _named_modules(env: Any) -> list[tuple[str, str, str]]:
    """Returns key, name and module (empty where there is none) of all that an environment's options name."""
    named = [("env.id", getattr(env, "id", ""))]
    named += [("env.wrappers", wrapper.name) for wrapper in getattr(env, "wrappers", ())]
    return [(key, name, name.rpartition(":")[0]) for key, name in named]


def _software(options: RunOptions) -> dict[str, str]:
    """Returns the versions of the packages that play."""
    env = cast("Any", options.env)
    packages = {"ale-py"} if env.kind == "atari" else {"gymnasium"}
    packages |= {module.partition(".")[0] for _, _, module in _named_modules(env) if module}
    found = {}
    for package in sorted(packages):
        with contextlib.suppress(metadata.PackageNotFoundError):  # a module of the user's own has no version
            found[package] = metadata.version(package)
    return found


def checkpoint_options(checkpoint: Checkpoint, device: str) -> RunOptions:
    """Returns the options of the run that wrote a checkpoint, for the machine at hand.

    The config says what was chosen on the machine that trained; what ``auto`` means may be another thing here.
    """
    trained = validate(checkpoint.config, RunOptions, str(checkpoint.path))
    here: dict[str, Any] = {
        "device": device,
        "threads": "auto",
        "memory_format": "auto",
        "precision": "float32" if trained.precision == "float32" else "auto",
    }
    if hasattr(trained.env, "threads"):
        here["env"] = trained.env.model_copy(update={"threads": "auto"})
    return trained.model_copy(update=here)
