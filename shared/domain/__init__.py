"""The pure core: words, events and decisions. Standard library only; clocks and randomness are arguments."""
