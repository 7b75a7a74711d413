"""The nouns: instruments, market data, orders, executions, accounts, events. Imports nothing of ours; start at events.py."""
