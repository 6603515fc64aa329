"""The tests: sentences of policy, on real servers."""

import hypothesis

# An example that takes long shows that the machine is busy, not that the code is wrong.
hypothesis.settings.register_profile("tidings", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tidings")
