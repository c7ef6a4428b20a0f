"""Environments: one contract over Atari and Gymnasium, no hidden autoreset, episodes that can be replayed."""
