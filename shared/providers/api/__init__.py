"""The parts that the clients of the providers' management APIs share."""
