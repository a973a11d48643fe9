"""The rules of the linter, one idea a module; `triggers_core.views.linter` puts them together.

They read only what a task's rule and its conditions tell.
"""
