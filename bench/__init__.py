"""The benchmarks, and what they are compared with."""
