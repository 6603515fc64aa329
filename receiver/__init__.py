"""The public door: verify, keep the bytes, ring, answer."""
