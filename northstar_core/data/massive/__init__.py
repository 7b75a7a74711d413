"""The feed of Massive: the pure half (protocol, symbol, wire, conditions), then the thin one (link, rest)."""
