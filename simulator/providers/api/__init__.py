"""The common parts of the simulated management APIs."""
