"""Floor 0: values, random streams, schedules and errors that every other package may use."""
