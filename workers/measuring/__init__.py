"""Measuring the conditions that rules ask for, in parts."""
