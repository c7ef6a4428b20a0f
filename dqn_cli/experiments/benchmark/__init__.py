"""``dqn bench``: how fast a config trains here, where the time goes, and how far from the hardware's limit."""
