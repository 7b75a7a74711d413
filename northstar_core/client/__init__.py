"""What runs inside a kernel, wired from outside. Start at run.py."""
