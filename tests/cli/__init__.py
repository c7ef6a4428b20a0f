"""Tests of dqn_cli.cli."""
