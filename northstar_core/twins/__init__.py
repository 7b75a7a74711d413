"""Twins: servers on loopback that speak the real wire protocols of feed and brokers, for tests, rehearsal and the demo."""
