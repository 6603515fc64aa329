"""HTTP in both directions: the client for small calls, Standard Webhooks, and what both servers share."""
