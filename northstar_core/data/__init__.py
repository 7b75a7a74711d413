"""Market data in: files, generated markets, sessions and splits become one normalised ``Tape``; start at history.py."""
