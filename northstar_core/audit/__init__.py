"""The auditor: its own fold of the log, its own arithmetic. Imports model, never engine. Start at verify.py, why.py."""
