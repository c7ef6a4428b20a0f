"""Tests of dqn_cli.training."""
