"""Sessions of Triggers in a directory of JSON files."""
