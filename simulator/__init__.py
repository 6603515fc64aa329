"""Plays the providers and a downstream application, for the demo, the tests and the benchmarks."""
