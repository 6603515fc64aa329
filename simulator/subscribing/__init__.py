"""Plays an application that subscribes to Tidings."""
