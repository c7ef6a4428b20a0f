"""Tests of what runs whole experiments."""
