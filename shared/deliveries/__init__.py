"""Deliveries: outgoing webhooks that notify subscribers of changes.

`fan_out_cursor` reads the change log, `store` is the queue of deliveries, `policy` decides about retries, and
`requests` builds signed requests. The API and the command line read deliveries with `queries` and `explain`, and act
on them with `jobs`, `recovery` and `sample_delivery`.
"""
