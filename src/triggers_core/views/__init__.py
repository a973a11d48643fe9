"""Views: what sessions, a fleet and configurations look like as plain data, for any display.

Each module has functions that take records, storages or configurations, and return data that JSON
can hold; what looks like a secret in it is masked.
"""
