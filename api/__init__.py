"""The private door: the JSON API."""
