"""What runs inside a kernel: ``run`` and, later, sessions, tickets and views. Start at run.py; it decides nothing, it is wired from outside."""
