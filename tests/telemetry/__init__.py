"""Tests of dqn_cli.telemetry."""
