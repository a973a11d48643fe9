"""Triggers on the web: webhooks that become events, and pages that show what became of them.

What answers is a plain function from a `Request` to a `Response` (`triggers_web.http`), which knows
no framework. `triggers_web.starlette` makes an ASGI application of it.
"""

__version__ = "0.2.0"
