"""Tests of dqn_cli.evaluation."""
