"""Draw what the numbers say: the routing of a mixture of experts, and cost against load.

Text for a terminal of 80 columns, and SVG by hand: no library, no script in it, no reference to
anything outside the file. Colours carry no meaning alone; every line has its name beside it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from sovereign.policy.shapes import Architecture
from sovereign.sizing import GIB
from sovereign.sizing.cost import HOURS_A_MONTH, ApiCost, MachineCost
from sovereign.sizing.formats import Format
from sovereign.sizing.memory import weights
from sovereign.sizing.moe import Step, bytes_read, picture
from sovereign.sizing.parameters import active, expert_size, moe_layers, total

WIDTH = 78
"""Columns of the text."""
_BAR = 30
_DRAWN_EXPERTS_MAX = 16
_COLOURS = ("#1b5e9b", "#b5541c", "#3a7d34", "#7a3b8f", "#8a6d00", "#5a5a5a")
_W, _H, _LEFT, _BOTTOM, _TOP, _RIGHT = 720, 420, 70, 60, 50, 180


def routing_text(name: str, a: Architecture, fmt: Format) -> tuple[str, ...]:
    """The picture as lines of at most `WIDTH` columns; also for a model without experts."""
    if not a.experts:
        return (
            f"{name} is dense: every token uses all {total(a) / 1e9:.1f} thousand million",
            "parameters, so nothing is routed, and one batch size reads as much as another.",
        )
    return (
        *_boxes(name, a),
        "",
        *_facts(a, fmt),
        "",
        *_bars(a, fmt),
        "",
        "Experts touched: E x (1 - (1 - k/E)^batch) on average, if all are as likely.",
        "Real routers prefer some, so a real batch touches fewer. Read: weights only.",
    )


def _boxes(name: str, a: Architecture) -> tuple[str, ...]:
    drawn = min(a.experts, _DRAWN_EXPERTS_MAX)
    chosen = _spread_out(a.experts_per_token, drawn)
    row = "".join(f"[{'#' if i in chosen else ' '}]" for i in range(drawn))
    more = f" ... {a.experts} in all" if a.experts > drawn else ""
    always = (f"     |    and {a.shared_experts} shared, always",) if a.shared_experts else ()
    return (
        f"{name}: {a.experts_per_token} of {a.experts} experts for each token, in each of "
        f"{moe_layers(a)} layers",
        "",
        "  token -> router -> scores all experts, keeps the best " + str(a.experts_per_token),
        "     |",
        f"     +--> {row}{more}",
        *always,
        "     |",
        "     +--> their outputs, weighted by score, added up -> next layer",
    )


def _spread_out(count: int, among: int) -> frozenset[int]:
    """Which boxes to fill: some that lie apart, as a router would pick them."""
    return frozenset(
        (i * among) // max(count, 1) + among // (2 * max(count, 1)) for i in range(count)
    )


def _facts(a: Architecture, fmt: Format) -> tuple[str, ...]:
    all_, used, one = total(a), active(a), expert_size(a)
    held = weights(a, fmt).likely
    return (
        f"  all parameters      {all_ / 1e9:9.1f} x 10^9   memory holds all: "
        f"{held / GIB:.1f} GiB in {fmt.id}",
        f"  used by one token   {used / 1e9:9.1f} x 10^9   as much arithmetic as if so small",
        f"  one expert, 1 layer {one / 1e6:9.1f} x 10^6",
        f"  read for one token  {bytes_read(a, fmt, 1) / 1e9:9.1f} GB      "
        "over the bandwidth: one user's wait",
    )


def _bars(a: Architecture, fmt: Format) -> tuple[str, ...]:
    lines = ["  batch  experts touched                         read a step   a token"]
    for step in picture(a, fmt):
        filled = round(_BAR * step.experts / a.experts)
        bar = "#" * filled + "." * (_BAR - filled)
        lines.append(
            f"  {step.batch:5d}  {bar} {step.experts:6.1f}"
            f"   {step.bytes_step / 1e9:7.1f} GB {step.bytes_token / 1e9:7.2f} GB"
        )
    return tuple(lines)


def routing_svg(name: str, a: Architecture, fmt: Format) -> str:
    """The same as a picture: boxes of experts above, experts touched against the batch below."""
    if not a.experts:
        return _svg([_text(20, 30, f"{name} is dense: nothing is routed", 16)])
    drawn = min(a.experts, _DRAWN_EXPERTS_MAX)
    chosen = _spread_out(a.experts_per_token, drawn)
    said = f"{name}: {a.experts_per_token} of {a.experts} experts a token"
    shapes = [_text(20, 28, said, 16), _text(20, 64, "token, router")]
    for i in range(drawn):
        fill = _COLOURS[0] if i in chosen else "#ffffff"
        shapes.append(
            f'<rect x="{130 + i * 32}" y="46" width="26" height="26" fill="{fill}" stroke="#333"/>'
        )
    if a.experts > drawn:
        shapes.append(_text(138 + drawn * 32, 64, "..."))
    steps = picture(a, fmt)
    points = [(math.log2(s.batch), s.experts) for s in steps]
    ticks = [(math.log2(s.batch), str(s.batch)) for s in steps]
    frame = Frame(0, math.log2(steps[-1].batch), 0, float(a.experts), top=110)
    shapes += frame.axes("tokens in a batch", "experts touched a layer", ticks)
    shapes += frame.line(points, _COLOURS[0], "")
    for step, (x, y) in zip(steps, points, strict=True):
        shapes.append(_reading(frame, step, x, y))
    return _svg(shapes)


def _reading(frame: "Frame", step: Step, x: float, y: float) -> str:
    px, py = frame.place(x, y)
    return _text(px - 4, py - 8, f"{step.bytes_step / 1e9:.0f} GB", 10)


@dataclass(frozen=True, slots=True)
class Frame:
    """A field of a plot: what stands at its edges, and where a point lies in it."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float
    top: int = _TOP

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point; what lies outside is drawn at the edge."""
        across = (min(max(x, self.x_min), self.x_max) - self.x_min) / (self.x_max - self.x_min)
        up = (min(max(y, self.y_min), self.y_max) - self.y_min) / (self.y_max - self.y_min)
        width, height = _W - _LEFT - _RIGHT, _H - self.top - _BOTTOM
        return _LEFT + across * width, _H - _BOTTOM - up * height

    def axes(self, x_name: str, y_name: str, ticks: Iterable[tuple[float, str]]) -> list[str]:
        """Both axes with their names; five marks on the upright one."""
        left, bottom = self.place(self.x_min, self.y_min)
        right, top = self.place(self.x_max, self.y_max)
        found = [
            f'<path d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}" fill="none" stroke="#333"/>',
            _text(left, bottom + 45, x_name),
            _text(left, top - 12, y_name),
        ]
        for x, label in ticks:
            found.append(_text(self.place(x, self.y_min)[0] - 8, bottom + 20, label, 11))
        for i in range(5):
            y = self.y_min + (self.y_max - self.y_min) * i / 4
            found.append(_text(8, self.place(self.x_min, y)[1] + 4, _short(y), 11))
        return found

    def line(self, points: Sequence[tuple[float, float]], colour: str, name: str) -> list[str]:
        """A line through points, with its name at its end."""
        placed = [self.place(x, y) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        found = [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
        if name:
            x, y = placed[-1]
            found.append(_text(x + 6, y + 4, name, 11, colour))
        return found


def cost_svg(
    title: str, machines: Sequence[MachineCost], api: ApiCost | None, requests_day: float
) -> str:
    """Euros a month against requests a day: the interface rises, machines come in steps."""
    priced = [each for each in machines if each.eur_hour is not None][:4]
    most = max([requests_day * 2] + [(each.break_even_requests_day or 0) * 1.5 for each in priced])
    rising = _rising(api, requests_day)
    highest = max([rising * most, *(_month(each, most) for each in priced), 1.0])
    frame = Frame(0, most, 0, highest * 1.05)
    ticks = [(most * i / 4, _short(most * i / 4)) for i in range(5)]
    shapes = [_text(20, 26, title, 16)]
    shapes += frame.axes("requests a day", "EUR a month, before VAT", ticks)
    if api is not None:
        shapes += frame.line([(0, 0), (most, rising * most)], _COLOURS[-1], "Mistral API, EU")
    for colour, each in zip(_COLOURS, priced, strict=False):
        points = [(most * i / 100, _month(each, most * i / 100)) for i in range(101)]
        shapes += frame.line(points, colour, f"{each.shape.provider} {each.shape.id}"[:26])
    return _svg(shapes)


def _rising(api: ApiCost | None, requests_day: float) -> float:
    """Euros a month for each request a day, by the regional price."""
    return api.eur_month_regional / requests_day if api is not None and requests_day else 0.0


def _month(each: MachineCost, requests_day: float) -> float:
    machines = max(1, math.ceil(requests_day / each.capacity_requests_day))
    return (each.eur_hour or 0.0) * HOURS_A_MONTH * machines


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _text(x: float, y: float, said: str, size: int = 13, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}">{escape(said)}</text>'


def _svg(shapes: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_W} {_H}" '
        f'width="{_W}" height="{_H}" font-family="sans-serif">'
    )
    ground = f'<rect width="{_W}" height="{_H}" fill="#ffffff"/>'
    return "\n".join((head, ground, *shapes, "</svg>")) + "\n"
