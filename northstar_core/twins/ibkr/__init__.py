"""The twin of Interactive Brokers' Client Portal gateway: REST and the stream."""
