"""Deliveries: outgoing webhooks that notify subscriptions of changes.

`fan_out` follows the log of changes, `store` is the queue of deliveries, `policy` decides what an outcome means, and
`requests` builds what is sent. People read deliveries by `queries` and `explain`; `jobs`, `recovery` and
`test_delivery` are what they can do about them.
"""
