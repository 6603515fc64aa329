"""Evaluating alert rules and sending notifications."""
