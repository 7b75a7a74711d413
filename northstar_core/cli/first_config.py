"""The configuration ``northstar init`` writes: it loads and starts as it is; every part that needs a key waits behind a ``#``."""

from __future__ import annotations

TEXT = """\
# The desk's configuration. `northstar up` reads it; whatever is wrong in it is refused then, with the key and what is allowed.
#
# As it stands it needs no key: the desk starts with one paper account and no market data. Without a feed there are no prices, so
# `northstar preflight` says NO-GO and every order is denied; that is right. To trade, give it a feed (below), then uncomment the
# schedule. To see a whole day without any key, `make demo` plays one on simulated brokers and generated prices.
#
# Two kinds of lines begin with #: sentences like this one, and settings without a blank after the #. Uncomment the latter.
#
# There is no secret in this file. Where one is needed stands a reference:
#   "file:PATH"             a file with the secret in its one line, yours alone: chmod 400. Real money takes its secrets from files only.
#   "env:NAME"              an environment variable of the shell that runs `northstar up`
#   "keyring:SERVICE/NAME"  your desktop's keyring (pip install keyring; keyring set SERVICE NAME)
# Relative paths, of secrets and of notebooks, count from this file's folder.

[desk]
name = "desk"
calendar = "XNYS"                 # the exchange whose sessions the desk keeps: a MIC such as XNYS, XNSE, or 24/7
bar = "1m"                        # the bars strategies get: 1s or 1m; longer ones they make of these

# ── market data ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# Massive (Polygon): equities and options. Without ws and rest it is the vendor's own service.
#[feeds.massive]
#kind = "massive"
#key = "file:~/.config/northstar/massive.key"

# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

# A paper account: orders are filled here, against the feed's quotes. An account named shadow-… is one too, beside a live one.
[accounts.paper-1]
broker = "paper"
cash = 100_000
limits = "careful"                # its [limits.careful.account] binds all its strategies together
reconcile_s = 60                  # how often books are compared with the broker's, seconds
on_session_lost = "cancel"        # a strategy's kernel is gone: cancel its orders, leave them, or flatten its positions too

# Alpaca, its paper account. For real money: live = true, options = { url = "https://api.alpaca.markets" }, secrets from files.
#[accounts.alpaca-1]
#broker = "alpaca"
#live = false
#limits = "careful"
#secrets = { key = "file:~/.config/northstar/alpaca.key", secret = "file:~/.config/northstar/alpaca.secret" }

# Interactive Brokers, through a Client Portal gateway that runs on this machine and that you have logged in to. Accounts named
# DU… are paper accounts; any other is real money and needs live = true.
#[accounts.ibkr-1]
#broker = "ibkr"
#live = false
#limits = "careful"
#options = { url = "https://localhost:5000/v1/api", account_id = "DU1234567", self_signed = true }

# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

# A limit set: what one strategy may do, and what an account may do over all of them. All are needed: what is not set denies. Amounts are
# dollars; fractions are written as such (0.05 is 5 %).

[limits.careful.strategy]
max_order_qty = 10_000            # shares in one order
max_order_contracts = 100         # option contracts in one order
max_order_value = 25_000          # quantity × worst price of one order
collar = 0.05                     # a limit or stop price may lie this far from the market
market_reserve = 0.01             # a market order is valued this much worse than the market
max_data_age_s = 5                # a price may be this old ...
max_data_age_bars = 2             # ... plus this many bars
max_position_qty = 20_000         # worst case in one symbol, working orders included
max_position_contracts = 200
max_notional = 50_000             # worst case over all symbols
max_open_orders = 20
max_orders = 60                   # in a window of
window_s = 60                     # so many seconds
session = "regular"               # regular: only while the exchange is open; queue: the broker may hold it until then; always
allow_short = true
allow_uncovered = false           # short options without cover

[limits.careful.account]
max_gross = 150_000
max_net = 100_000
max_symbol_share = 0.75           # one symbol, as a part of equity
leverage = 1.5                    # worst case may reach this many times equity
max_orders = 120
window_s = 60

# ── grants ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

# Which strategy may trade what, in which account, with how much. A strategy's name is its class's in small letters: SmaCross is
# sma_cross. symbols = ["*"] allows every symbol; an underlying allows its options. Orders by hand are the strategy "manual".

[[grants]]
strategy = "sma_cross"
account = "paper-1"
symbols = ["SPY", "QQQ", "IWM"]
cash = 25_000
limits = "careful"
on_lost = "leave"                 # holds through nights: a lost kernel is no reason to sell
max_order_age_s = 300             # a working order older than this is cancelled, seconds

[[grants]]
strategy = "mean_reversion"
account = "paper-1"
symbols = ["SPY", "QQQ", "IWM"]
cash = 25_000
limits = "careful"
on_lost = "flatten"

[[grants]]
strategy = "volatility_breakout"
account = "paper-1"
symbols = ["SPY", "QQQ", "IWM"]
cash = 25_000
limits = "careful"
on_lost = "flatten"

[[grants]]
strategy = "put_vertical"
account = "paper-1"
symbols = ["SPY"]
cash = 20_000
limits = "careful"
on_lost = "leave"
one_trade = true                  # no second spread while one is open

[[grants]]
strategy = "manual"
account = "paper-1"
symbols = ["*"]
cash = 5_000
limits = "careful"

# ── schedule ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

# Notebooks that run every session. start and stop: open or close with an offset (open-5m, close+10m, close-1h30m), or a time of
# the exchange (09:10). restart: never, or on-failure. A run on an account with real money needs a fresh GO of preflight.

#[[schedule]]
#name = "momentum"
#notebook = "strategies/sma_momentum.ipynb"
#account = "paper-1"
#parameters = { symbols = ["SPY", "QQQ", "IWM"] }

#[[schedule]]
#name = "reversion"
#notebook = "strategies/mean_reversion.ipynb"
#account = "paper-1"
#parameters = { symbols = ["SPY", "QQQ", "IWM"] }

#[[schedule]]
#name = "breakout"
#notebook = "strategies/volatility_breakout.ipynb"
#account = "paper-1"
#parameters = { symbols = ["SPY", "QQQ", "IWM"] }

#[[schedule]]
#name = "verticals"
#notebook = "strategies/put_vertical.ipynb"
#account = "paper-1"
#parameters = { symbols = ["SPY"] }
#start = "open-5m"
#stop = "close+10m"
#restart = "on-failure"

# ── alerts ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

# Beside the log, alerts can be posted as JSON to a URL, which is a secret like any.
[alerts]
severity = "warning"              # the least that is sent: info, warning, critical
#webhook = "file:~/.config/northstar/webhook.url"
"""
