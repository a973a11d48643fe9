"""An example of a plugin: it warns about tasks that take longer than they should."""
