"""Strategies: what an author writes, and what he may lean on; pure, no I/O and no clock."""
