"""Subscriptions: who is notified of which changes, where, and how.

`service` creates and changes subscriptions, after `validation`; `view` shows them. `model` decides which changes a
subscription wants, and `circuit_breaker` when its endpoint is not called.
"""
