"""Research: backtests and what is read from them. Data come in as arguments; nothing here knows a database or a broker."""
