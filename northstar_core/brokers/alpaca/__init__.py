"""Alpaca: its wire, a book of what it said, and the links that carry both."""
