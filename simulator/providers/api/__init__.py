"""What the simulated management APIs have in common."""
