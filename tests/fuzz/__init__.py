"""Mutated files: never a traceback, never code executed, never a hang, never a wrong file accepted."""
