"""The engine: inputs in, facts out. Pure; imports only model. Start at engine.py; the rules an order must pass are in risk.py."""
