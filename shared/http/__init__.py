"""HTTP: a client for small calls, Standard Webhooks signatures, and code that the receiver and the API share."""
