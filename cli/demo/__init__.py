"""`tidings demo`: the whole system on throwaway data, with simulated providers, explained as it goes."""
