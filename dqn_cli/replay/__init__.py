"""Experience replay: every frame is kept once, every item that can be sampled is valid."""
