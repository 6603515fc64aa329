"""What the providers' management APIs have in common."""
