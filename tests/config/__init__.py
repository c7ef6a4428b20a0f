"""Tests of dqn_cli.config."""
