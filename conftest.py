"""For the tests of the core and of every plugin."""

from hypothesis import HealthCheck, settings

# No test asserts a duration, and a busy machine is no bug.
settings.register_profile("triggers", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("triggers")
