"""Tests of dqn_cli.networks."""
