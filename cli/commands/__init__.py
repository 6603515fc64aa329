"""The commands of `tidings`, one module each."""
