"""Incremental indicators: one number in, one number out, in time that does not grow with the window.

    fast = SMA(10)
    value = fast.update(bar.close)      # nan until ten closes have been seen
    if fast.ready: ...

Each keeps its last answer in ``value`` (nan until there is one) and says so in ``ready``. They hold plain lists and
floats, so they can be pickled and copied in mid-stream, and the same inputs give the same bits everywhere.

Inputs are finite numbers: the readers in ``data`` refuse anything else, so it is not checked again for every bar.
Rolling sums would drift; each is summed anew from its window (``math.fsum``, correctly rounded) once every ``period``
updates, so an error never outlives one window.
"""

from __future__ import annotations

from collections import deque
from math import fsum, nan, sqrt

from northstar_core.model.errors import ParameterError


class Indicator:
    """What all indicators share: the last ``value`` and whether there is one."""

    __slots__ = ("period", "value")

    period: int
    value: float

    def __init__(self, period: int) -> None:
        self.period = _period(type(self).__name__, period)
        self.value = nan

    @property
    def ready(self) -> bool:
        """Whether enough has been seen to give a value."""
        return self.value == self.value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.period}, value={self.value!r})"


def _period(name: str, period: int, least: int = 1) -> int:
    if not isinstance(period, int) or period < least:
        raise ParameterError(f"{name}: period must be a whole number of at least {least}, got {period!r}")
    return period


class SMA(Indicator):
    """Simple moving average: the mean of the last ``period`` inputs."""

    # The window starts as nans, so the value is nan until the first time it is summed, which is when it is full:
    # warm-up costs no branch. The window is written from its end to its start.
    __slots__ = ("_i", "_share", "_window")

    def __init__(self, period: int) -> None:
        super().__init__(period)
        self._window = [nan] * period
        self._share = 1 / period
        self._i = period

    def update(self, x: float) -> float:
        """Take the next input and return the average."""
        self._i = i = self._i - 1
        window = self._window
        self.value = value = self.value + (x - window[i]) * self._share
        window[i] = x
        if i:
            return value
        self._i = self.period
        self.value = value = fsum(window) / self.period
        return value


class WMA(Indicator):
    """Linearly weighted moving average: weight ``period`` for the newest input down to 1 for the oldest."""

    __slots__ = ("_i", "_sum", "_weighted", "_weights", "_window")

    def __init__(self, period: int) -> None:
        super().__init__(period)
        self._window = [nan] * period
        self._weights = period * (period + 1) / 2
        self._sum = self._weighted = nan
        self._i = period

    def update(self, x: float) -> float:
        """Take the next input and return the weighted average."""
        period, window = self.period, self._window
        self._i = i = self._i - 1
        self._weighted += period * x - self._sum
        self._sum += x - window[i]
        window[i] = x
        if not i:
            self._i = period
            self._sum = fsum(window)
            self._weighted = fsum([weight * w for weight, w in zip(range(period, 0, -1), window, strict=True)])
        self.value = value = self._weighted / self._weights
        return value


class EMA(Indicator):
    """Exponential moving average, seeded with the simple mean of the first ``period`` inputs (as TA-Lib).

    ``alpha`` is the weight of the newest input: 2 / (period + 1) unless given; Wilder's smoothing is 1 / period.
    """

    __slots__ = ("_seed", "alpha")

    def __init__(self, period: int, alpha: float | None = None) -> None:
        super().__init__(period)
        self.alpha = 2 / (period + 1) if alpha is None else alpha
        if not 0 < self.alpha <= 1:
            raise ParameterError(f"{type(self).__name__}: alpha must be above 0 and at most 1, got {alpha!r}")
        self._seed: list[float] = []

    def update(self, x: float) -> float:
        """Take the next input and return the average."""
        value = self.value
        if value == value:
            self.value = value = value + self.alpha * (x - value)
            return value
        seed = self._seed
        seed.append(x)
        if len(seed) == self.period:
            self.value = value = fsum(seed) / self.period
            seed.clear()
        return value


class ROC(Indicator):
    """Rate of change: the input over the one ``period`` updates earlier, less one (0.02 is 2 %). Inputs above zero."""

    __slots__ = ("_i", "_window")

    def __init__(self, period: int) -> None:
        super().__init__(period)
        self._window = [nan] * period
        self._i = period

    def update(self, x: float) -> float:
        """Take the next input and return its change."""
        self._i = i = self._i - 1
        window = self._window
        self.value = value = x / window[i] - 1.0
        window[i] = x
        if not i:
            self._i = self.period
        return value


class RSI(Indicator):
    """Wilder's relative strength index, 0 to 100; the first value comes with input ``period`` + 1.

    The averages of gains and losses start as the simple means of the first ``period`` changes, then take Wilder's
    smoothing (*New Concepts in Technical Trading Systems*, 1978). 100 where nothing was lost; 50 where nothing moved at
    all.
    """

    __slots__ = ("_gain", "_gains", "_last", "_loss", "_losses", "_rest", "_share")

    def __init__(self, period: int = 14) -> None:
        super().__init__(period)
        self._last = nan
        self._gain = self._loss = nan
        self._share = 1 / period
        self._rest = 1 - self._share
        self._gains: list[float] = []
        self._losses: list[float] = []

    def update(self, x: float) -> float:
        """Take the next input and return the index."""
        change = x - self._last
        self._last = x
        gain = self._gain
        if gain == gain:
            gain *= self._rest
            loss = self._loss * self._rest
            if change > 0.0:
                gain += change * self._share
            else:
                loss -= change * self._share
            self._gain = gain
            self._loss = loss
        elif change != change or not self._seed(change):
            return nan
        else:
            gain, loss = self._gain, self._loss
        self.value = value = 100.0 * gain / (gain + loss) if gain or loss else 50.0
        return value

    def _seed(self, change: float) -> bool:
        """Collect the first changes; tell whether there are enough."""
        self._gains.append(max(change, 0.0))
        self._losses.append(max(-change, 0.0))
        if len(self._gains) < self.period:
            return False
        self._gain, self._loss = fsum(self._gains) / self.period, fsum(self._losses) / self.period
        self._gains.clear()
        self._losses.clear()
        return True


class ATR(Indicator):
    """Wilder's average true range; the first value, with bar ``period``, is the simple mean of that many true ranges.

    The true range of the first bar is its high less its low, as there is no close before it (Wilder 1978; TA-Lib leaves
    that bar out).
    """

    __slots__ = ("_close", "_mean")

    def __init__(self, period: int = 14) -> None:
        super().__init__(period)
        self._close = nan
        self._mean = EMA(period, alpha=1 / period)

    def update(self, high: float, low: float, close: float) -> float:
        """Take the next bar and return the average true range."""
        before = self._close
        self._close = close
        # a nan ``before`` compares false twice, which leaves high - low
        self.value = value = self._mean.update((before if before > high else high) - (before if before < low else low))
        return value


class Stdev(Indicator):
    """Standard deviation of the last ``period`` inputs: of the population by default, of a sample with ``ddof=1``.

    Sums of deviations from an anchor near the mean are kept, not sums of squares; the anchor moves to the mean every
    ``period`` updates, and at once where the two sums nearly cancel, so that a flat stretch after a jump gives 0.
    """

    __slots__ = ("_anchor", "_i", "_square", "_sum", "_window", "ddof")

    def __init__(self, period: int, ddof: int = 0) -> None:
        super().__init__(period)
        if ddof not in (0, 1) or period <= ddof:
            raise ParameterError(f"{type(self).__name__}: ddof must be 0 or 1 and below the period, got {ddof!r}")
        self.ddof = ddof
        self._window = [nan] * period
        self._anchor = self._sum = self._square = nan
        self._i = period

    @property
    def mean(self) -> float:
        """The mean of the same inputs."""
        return self._anchor + self._sum / self.period

    def update(self, x: float) -> float:
        """Take the next input and return the standard deviation."""
        self._i = i = self._i - 1
        window, anchor, period = self._window, self._anchor, self.period
        new = x - anchor
        old = window[i] - anchor
        window[i] = x
        step = new - old
        self._sum = total = self._sum + step
        self._square = square = self._square + step * (new + old)
        squares = square - total * total / period
        if not i or squares < 1e-8 * square:
            if not i:
                self._i = period
            self._anchor = anchor = fsum(window) / period
            self._sum = total = fsum([w - anchor for w in window])
            self._square = square = fsum([(w - anchor) * (w - anchor) for w in window])
            squares = square - total * total / period
        self.value = value = 0.0 if squares <= 0.0 else sqrt(squares / (period - self.ddof))
        return value


class ZScore(Stdev):
    """How many standard deviations the newest input is from the mean of the last ``period`` (itself included).

    nan where they are all equal. ``stdev`` and ``mean`` give the parts.
    """

    __slots__ = ("stdev",)

    def __init__(self, period: int, ddof: int = 0) -> None:
        super().__init__(period, ddof)
        self.stdev = nan

    @property
    def ready(self) -> bool:
        """Whether ``period`` inputs have been seen."""
        return self.stdev == self.stdev

    def update(self, x: float) -> float:
        """Take the next input and return its score."""
        self.stdev = stdev = super().update(x)
        self.value = value = (x - self.mean) / stdev if stdev else nan
        return value


class Bollinger(Stdev):
    """Bollinger bands: ``value`` is the mean, ``upper`` and ``lower`` lie ``width`` standard deviations from it.

    The deviation is the population's, as Bollinger has it (*Bollinger on Bollinger Bands*, 2001); ``ddof=1`` gives the
    sample's.
    """

    __slots__ = ("lower", "stdev", "upper", "width")

    def __init__(self, period: int = 20, width: float = 2.0, ddof: int = 0) -> None:
        super().__init__(period, ddof)
        self.width = width
        self.upper = self.lower = self.stdev = nan

    def update(self, x: float) -> float:
        """Take the next input and return the middle of the band."""
        self.stdev = stdev = super().update(x)
        self.value = value = self._anchor + self._sum / self.period
        self.upper = value + self.width * stdev
        self.lower = value - self.width * stdev
        return value


class RollingMax(Indicator):
    """The greatest of the last ``period`` inputs."""

    # A queue of candidates that falls from its head, with the update at which each leaves the window: every input
    # enters and leaves once, so the cost is constant on average whatever the window.
    __slots__ = ("_count", "_leaves", "_values")

    def __init__(self, period: int) -> None:
        super().__init__(period)
        self._values: deque[float] = deque()
        self._leaves: deque[int] = deque()
        self._count = 0

    def update(self, x: float) -> float:
        """Take the next input and return the greatest."""
        self._count = count = self._count + 1
        values, leaves = self._values, self._leaves
        while values and values[-1] <= x:
            values.pop()
            leaves.pop()
        values.append(x)
        leaves.append(count + self.period)
        if leaves[0] == count:
            values.popleft()
            leaves.popleft()
        if count >= self.period:
            self.value = value = values[0]
            return value
        return nan


class RollingMin(Indicator):
    """The least of the last ``period`` inputs."""

    __slots__ = ("_count", "_leaves", "_values")

    def __init__(self, period: int) -> None:
        super().__init__(period)
        self._values: deque[float] = deque()
        self._leaves: deque[int] = deque()
        self._count = 0

    def update(self, x: float) -> float:
        """Take the next input and return the least."""
        self._count = count = self._count + 1
        values, leaves = self._values, self._leaves
        while values and values[-1] >= x:
            values.pop()
            leaves.pop()
        values.append(x)
        leaves.append(count + self.period)
        if leaves[0] == count:
            values.popleft()
            leaves.popleft()
        if count >= self.period:
            self.value = value = values[0]
            return value
        return nan


class Donchian(Indicator):
    """Donchian channel: ``upper`` is the greatest high and ``lower`` the least low of the last ``period`` bars.

    ``value`` is their middle. The newest bar is part of it: to test for a breakout, read ``upper`` before the update.
    """

    __slots__ = ("_high", "_low", "lower", "upper")

    def __init__(self, period: int = 20) -> None:
        super().__init__(period)
        self._high, self._low = RollingMax(period), RollingMin(period)
        self.upper = self.lower = nan

    def update(self, high: float, low: float) -> float:
        """Take the next bar and return the middle of the channel."""
        self.upper = upper = self._high.update(high)
        self.lower = lower = self._low.update(low)
        self.value = value = (upper + lower) / 2
        return value


class VWAP(Indicator):
    """Volume-weighted average price since the last ``reset``, which belongs at each session's open.

    Of trades it is exact; of bars it is as good as the price they are represented by (usually (high + low + close) /
    3). nan until there is volume.
    """

    __slots__ = ("_money", "volume")

    def __init__(self) -> None:
        super().__init__(1)
        self._money = self.volume = 0.0

    def update(self, price: float, size: float) -> float:
        """Take the next trade and return the average price."""
        self._money += price * size
        self.volume += size
        if self.volume:
            self.value = self._money / self.volume
        return self.value

    def reset(self) -> None:
        """Forget all: a new session begins."""
        self._money = self.volume = 0.0
        self.value = nan


class MACD(Indicator):
    """Moving average convergence divergence: ``value`` is the fast EMA less the slow one.

    ``signal`` is the EMA of that line, seeded once there are ``signal_period`` values of it; ``histogram`` is the line
    less its signal. Each EMA is seeded with its own first inputs (TA-Lib starts the fast one late, so that both begin
    together). ``ready`` once there is a signal.
    """

    __slots__ = ("_fast", "_signal", "_slow", "histogram", "signal")

    def __init__(self, fast: int = 12, slow: int = 26, signal: int = 9) -> None:
        super().__init__(slow)
        if _period("MACD", fast) >= slow:
            raise ParameterError(f"MACD: the fast period must be below the slow one, got {fast} and {slow}")
        self._fast, self._slow, self._signal = EMA(fast), EMA(slow), EMA(_period("MACD", signal))
        self.signal = self.histogram = nan

    @property
    def ready(self) -> bool:
        """Whether there is a signal."""
        return self.signal == self.signal

    def update(self, x: float) -> float:
        """Take the next input and return the line."""
        self.value = value = self._fast.update(x) - self._slow.update(x)
        if value == value:
            self.signal = signal = self._signal.update(value)
            self.histogram = value - signal
        return value


class Keltner(Indicator):
    """Keltner channel as Linda Raschke draws it: the EMA of closes, plus and minus ``width`` average true ranges."""

    __slots__ = ("_atr", "_ema", "lower", "upper", "width")

    def __init__(self, period: int = 20, atr_period: int = 10, width: float = 2.0) -> None:
        super().__init__(period)
        self._ema, self._atr, self.width = EMA(period), ATR(atr_period), width
        self.upper = self.lower = nan

    @property
    def ready(self) -> bool:
        """Whether both the average and the range have a value."""
        return self.upper == self.upper

    def update(self, high: float, low: float, close: float) -> float:
        """Take the next bar and return the middle of the channel."""
        self.value = value = self._ema.update(close)
        band = self.width * self._atr.update(high, low, close)
        self.upper = value + band
        self.lower = value - band
        return value
