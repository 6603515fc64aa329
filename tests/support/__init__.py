"""What several packages of tests use: servers, a system under test, HTTP sinks, simulated providers."""
