"""Tests of dqn_cli."""
