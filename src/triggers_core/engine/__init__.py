"""The engine: what an event changes in a session, and how. Pure: no I/O, no clock, no thread."""
