"""Makes one Gymnasium environment from plain values, with an error that says what to do where that fails."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
from gymnasium import error
from gymnasium.envs.registration import EnvSpec, load_env_creator

from dqn_cli.core.errors import UsageError, nearest, one_line, told
from dqn_cli.envs import minatar

Environment = gymnasium.Env[Any, Any]

_REFUSED_WRAPPERS = {
    "NormalizeObservation": "its running statistics outlive an episode, so that no episode could be replayed",
    "NormalizeReward": "its running statistics outlive an episode, so that no episode could be replayed",
    "Autoreset": "a hidden reset would store a transition that leads from one episode into the next",
}
_LEGACY_ATARI = re.compile(r"(?P<game>\w+?)(NoFrameskip|Deterministic)-v\d+")


@dataclass(frozen=True, slots=True)
class EnvironmentFactory:
    """Makes identical environments, here or in a worker process.

    It carries the registration itself, so that a worker need not have imported whatever registered the id.

    Attributes:
        name: The id, for people.
        spec: The environment's registration.
        kwargs: Keyword arguments of the environment.
        wrappers: Names and keyword arguments of wrappers, innermost first.
        parent: Process that made the factory; any other process is a worker.
    """

    name: str
    spec: EnvSpec
    kwargs: Mapping[str, Any]
    wrappers: Sequence[tuple[str, Mapping[str, Any]]]
    parent: int = field(default_factory=os.getpid)

    def __call__(self) -> Environment:
        """Makes one environment.

        Raises:
            UsageError: An argument or a wrapper is wrong, or a dependency is missing.
        """
        if os.getpid() != self.parent:
            _outlive_signals()
        env = self._make()
        for wrapper, kwargs in self.wrappers:
            env = _wrap(env, wrapper, kwargs)
        return env

    def _make(self) -> Environment:
        try:
            return gymnasium.make(self.spec, **self.kwargs)
        except error.DependencyNotInstalled as failure:
            raise UsageError(_missing_dependency(self.name, self.spec, failure)) from failure
        except (Exception, SystemExit) as failure:
            self._explain_unknown_kwargs(failure)
            given = one_line(str(dict(self.kwargs)))
            raise UsageError(
                f"environment '{self.name}' cannot be made with env.kwargs={given}: {told(failure)}"
            ) from failure

    def _explain_unknown_kwargs(self, failure: BaseException) -> None:
        """Raises a better error where a keyword argument is not one of the environment's."""
        entry_point = self.spec.entry_point
        if entry_point is None or not isinstance(failure, TypeError):
            return
        creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
        accepted = inspect.signature(creator).parameters
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in accepted.values()):
            return
        names = [*accepted, "max_episode_steps", "disable_env_checker"]
        for key in self.kwargs:
            if key not in names:
                raise UsageError(
                    f"env.kwargs: environment '{self.name}' takes no argument '{key}'.{nearest(key, names)}"
                    f" It takes {', '.join(accepted) or 'none'}."
                ) from failure


def environment_factory(
    env_id: str, kwargs: Mapping[str, Any], wrappers: Sequence[tuple[str, Mapping[str, Any]]]
) -> EnvironmentFactory:
    """Finds an environment and returns the factory that makes it.

    Args:
        env_id: ``Name-v0``, or ``module:Name-v0`` where importing the module registers the environment.
        kwargs: Keyword arguments of the environment.
        wrappers: Names and keyword arguments, innermost first; a name is one of ``gymnasium.wrappers`` or
            ``module:ClassName``.

    Raises:
        UsageError: There is no such environment, or it is an Atari game.
    """
    module, _, name = env_id.rpartition(":")
    _refuse_atari(env_id, name)
    if module:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as failure:
            raise UsageError(
                f"environment '{env_id}': module '{module}' cannot be imported ({told(failure)});"
                " install the package that provides it, or put its folder on PYTHONPATH"
            ) from failure
    minatar.register_minatar(env_id, name)
    try:
        spec = gymnasium.spec(name)
    except error.Error as failure:
        known = [key for key, known_spec in gymnasium.registry.items() if not _is_atari(known_spec)]
        raise UsageError(
            f"env.id: there is no environment '{env_id}'.{nearest(name, known)} An environment of another"
            " package is named 'module:Name-v0', where importing the module registers it."
        ) from failure
    if _is_atari(spec):
        _refuse_atari(env_id, f"ALE/{name}")
    if minatar.is_minatar(spec):
        wrappers = ((minatar.ADAPTER, {}), *wrappers)
    return EnvironmentFactory(env_id, spec, dict(kwargs), tuple(wrappers))


def _is_atari(spec: EnvSpec) -> bool:
    return str(spec.entry_point).startswith("ale_py")


def _refuse_atari(env_id: str, name: str) -> None:
    legacy = _LEGACY_ATARI.fullmatch(name)
    if name.startswith("ALE/") or legacy:
        game = legacy["game"] if legacy else re.sub(r"-v\d+$", "", name.removeprefix("ALE/"))
        raise UsageError(
            f"env.id: '{env_id}' is an Atari game; use env: {{kind: atari, game: {game}}}, which states the"
            " whole Atari protocol"
        )


def _missing_dependency(name: str, spec: EnvSpec, failure: Exception) -> str:
    if ".box2d" in str(spec.entry_point):
        return f"environment '{name}' needs Box2D: pip install 'dqn_cli[box2d]'"
    return f"environment '{name}' lacks a dependency: {told(failure)}"


def _wrap(env: Environment, name: str, kwargs: Mapping[str, Any]) -> Environment:
    wrapper = _find_wrapper(name)
    try:
        return wrapper(env, **kwargs)
    except (Exception, SystemExit) as failure:
        raise UsageError(
            f"env.wrappers: '{name}' cannot be applied with kwargs={one_line(str(dict(kwargs)))}: {told(failure)}"
        ) from failure


def _find_wrapper(name: str) -> type[gymnasium.Wrapper[Any, Any, Any, Any]]:
    module_name, _, class_name = name.rpartition(":")
    try:
        module = importlib.import_module(module_name or "gymnasium.wrappers")
        wrapper: Any = getattr(module, class_name, None)  # some of Gymnasium's import their packages here
    except (Exception, SystemExit) as failure:
        raise UsageError(
            f"env.wrappers: module '{module_name or 'gymnasium.wrappers'}' of '{name}' cannot be imported"
            f" ({told(failure)});"
            " install the package that provides it, or put its folder on PYTHONPATH"
        ) from failure
    if not callable(wrapper):
        known = [key for key in dir(module) if callable(getattr(module, key)) and not key.startswith("_")]
        known += getattr(module, "__all__", [])
        raise UsageError(
            f"env.wrappers: {module.__name__} has no wrapper '{class_name}'.{nearest(class_name, known)}"
            " A wrapper of your own is named 'module:ClassName'."
        )
    ancestors = {ancestor.__name__ for ancestor in getattr(wrapper, "__mro__", ())}
    for refused, reason in _REFUSED_WRAPPERS.items():
        if refused in ancestors:
            raise UsageError(f"env.wrappers: '{name}' is refused: {reason}; remove it")
    if inspect.isclass(wrapper) and issubclass(wrapper, gymnasium.vector.VectorEnv):
        raise UsageError(f"env.wrappers: '{name}' wraps a vector of environments; use its twin for a single one")
    # A config may come from a stranger's checkpoint: only wrappers are called, not whatever can be imported.
    if not (inspect.isclass(wrapper) and issubclass(wrapper, gymnasium.Wrapper)):
        raise UsageError(f"env.wrappers: '{name}' is not a class derived from gymnasium.Wrapper; name one that is")
    return wrapper


def _outlive_signals() -> None:
    """Lets a worker live until its parent has saved: terminals and job schedulers signal the whole group."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
