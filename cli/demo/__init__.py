"""`tidings demo`: the whole system with simulated providers and temporary data."""
