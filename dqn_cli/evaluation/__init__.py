"""Scores: how they are measured, summarized and compared with published references."""
