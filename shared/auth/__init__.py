"""API keys, the audit log and idempotent answers: who may do what, and what they did."""
