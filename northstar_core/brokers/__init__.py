"""Brokers: each a pure protocol half and a thin socket half behind one contract (``base``)."""
