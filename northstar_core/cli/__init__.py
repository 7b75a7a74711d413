"""The command line, ``northstar …``: one file a group of commands, each a thin shell over a room. Start at main.py."""
