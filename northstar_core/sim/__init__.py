"""The world a strategy trades in: an exchange and its broker as a pure state machine. Start at broker.py."""
