"""Diagnosis: where a message is, why, and what to do next."""
