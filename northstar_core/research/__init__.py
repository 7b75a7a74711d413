"""Research: backtests and what is read from them. Data come in as arguments; no database or broker is known here."""
