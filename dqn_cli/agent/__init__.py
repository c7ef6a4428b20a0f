"""The agent: explore, act, bootstrap, measure the error, learn."""
