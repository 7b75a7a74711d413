"""The auditor: its own fold of the log, its own arithmetic. Imports model (and store), never engine. Start at verify.py, why.py."""
