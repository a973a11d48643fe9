"""From a message to an outcome: one attempt, its lease and its logs; the sweep that repeats it."""
