"""Tests of dqn_cli.agent."""
