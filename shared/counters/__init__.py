"""Per-minute counters of events, refusals and rejections, which alert rules and statistics read."""
