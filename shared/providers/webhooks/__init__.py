"""The parts that the providers' webhook adapters share."""
