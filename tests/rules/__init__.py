"""Tests of dqn_cli.rules."""
