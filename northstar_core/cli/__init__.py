"""The command line, ``northstar …``: one file a group of commands, each a thin shell over the room it starts. Start at main.py."""
