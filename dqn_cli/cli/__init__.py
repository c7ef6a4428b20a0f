"""The command line: one short file a command. Heavy imports stand inside commands."""
