"""A provider without an adapter, played by the mapping that describes it."""
