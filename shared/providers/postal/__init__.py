"""Postal: webhook adapter."""
