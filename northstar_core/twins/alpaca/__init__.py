"""The twin of Alpaca's trading API: REST and the stream of trade updates."""
