"""The audit of a config: what enters the gradient against what the environment did."""
