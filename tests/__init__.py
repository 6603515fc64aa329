"""The tests: sentences of policy, on real servers."""
