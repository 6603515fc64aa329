"""Receipts: stored webhook requests, the queue that workers claim from, the quarantine and the refusals."""
