"""Making deliveries, in parts."""
