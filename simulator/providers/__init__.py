"""The simulated providers, one folder each. They share no code with the adapters that they test."""
