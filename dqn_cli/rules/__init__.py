"""Learning rules: pure batched functions with shape checks and their sources."""
