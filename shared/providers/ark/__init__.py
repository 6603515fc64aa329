"""Ark: webhook adapter and management API."""
