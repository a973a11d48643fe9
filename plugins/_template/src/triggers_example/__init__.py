"""An example of a plugin: it warns about tasks that take longer than they should."""

__version__ = "0.1.0"
