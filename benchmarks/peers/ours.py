"""Our side of a comparison: ``ours.py CONFIG STEPS [KEY=VALUE...]`` prints the steps a second after the warm-up."""

from __future__ import annotations

import json
import sys
import time

from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import make_environments, make_training
from dqn_cli.config.load import load_config
from dqn_cli.plan import make_plan
from dqn_cli.schema import RunOptions, learning_begins
from dqn_cli.training.loop import ReportDue


def main() -> None:
    """Trains for the given number of learning steps."""
    config, steps, overrides = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    options = load_config(config, overrides, RunOptions, presets_folder()).options
    begin = learning_begins(options)
    options = options.model_copy(update={"total_steps": begin + steps})
    plan = make_plan(options)
    plan.hardware.apply()
    environments = make_environments(options)
    training = make_training(options, plan.hardware, environments)
    started = 0.0
    first = updates = 0
    for event in training.loop.run():
        if isinstance(event, ReportDue) and not first and event.step >= begin:
            started, first, updates = time.monotonic(), event.step, training.learner.updates
    seconds = time.monotonic() - started
    environments.close()
    steps, updates = training.loop.step - first, training.learner.updates - updates
    print(json.dumps({"steps_per_second": steps / seconds, "steps": steps, "updates": updates}))


if __name__ == "__main__":
    main()
