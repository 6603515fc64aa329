"""Alerts: the rules, what they measure, when an alert fires and resolves, and the stored alerts."""
