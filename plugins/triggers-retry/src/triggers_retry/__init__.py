"""Retries of failed instances, as a directive of the task's configuration."""
