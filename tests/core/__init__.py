"""Tests of dqn_cli.core."""
