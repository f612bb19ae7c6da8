"""Random rules and what happens to them, written for two judges: logbell's language, and PromQL over series that say the same.

What a pattern counts is three series here: `p_count`, the matches at each tick since the series is there, so that
sum_over_time() over it is count_over_time() of logbell, its zeros included; `p_event`, 1 at each match; `p_value`, the
`value:` of each match. What logbell defines otherwise than PromQL is written out (`zero()`), or is not drawn; each of these is a
row of "Where logbell differs from PromQL" in rules/README.md.

Windows: of Prometheus 2 they are closed on both sides, logbell's are open on the left. Matches come at `phase` after each tick,
expressions are looked at on ticks, and windows are whole ticks, so that none lies on an edge; whatever changes between two
evaluations changes once.
"""
import math
import re

LABELS = {"a": ["x", "y", "z"], "b": ["u", "v"]}
PATTERNS = {"plain": [], "by_a": ["a"], "by_b": ["b"], "both": ["a", "b"], "pair": ["a", "b"]}
COMPARISONS = ["==", "!=", ">", "<", ">=", "<="]
# As in Go's grammar: a unary sign binds stronger than `*` and weaker than `^`.
PRECEDENCE = {"or": 1, "and": 2, "unless": 2, **{op: 3 for op in COMPARISONS}, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5, "^": 7}
UNARY = 6
ATOM = 9


class Expr:
    """One of the two texts' common tree. `labels`: those that its elements may have; None: it is a number. `fixed`: of which all have
    the same value. `exact`: both judges compute the same bits; `whole`: sums of it are exact, too, in any order. `draw`: what one of its
    values may be like, to find thresholds that mean something."""

    def __init__(self, text, labels, draw, strength=ATOM, exact=True, whole=False, fixed=(), nan=False):
        self.text, self.labels, self.draw, self.strength = text, labels, draw, strength
        self.exact, self.whole, self.fixed, self.nan = exact, whole, frozenset(fixed), nan

    def is_tie_free(self):
        """Its values hardly ever are equal."""
        return self.exact and not self.nan and self.text[0].startswith("last_over_time")

    def within(self, strength):
        """Its text where an operand of this strength is expected: in brackets where it needs them."""
        return self.text if self.strength >= strength else (f"({self.text[0]})", f"({self.text[1]})")


def both(text):
    return (text, text)


def joined(form, *parts):
    return tuple(form.format(*[part[i] for part in parts]) for i in (0, 1))


class World:
    """Where rules are drawn for and what happens in it: its ticks, its matches. Seconds throughout."""

    def __init__(self, name, tick, phase, step, lead, ticks, clocks=(), holds=True):
        self.name, self.tick, self.phase, self.step = name, tick, phase, step
        self.lead, self.ticks = lead, ticks  # before the first match may come, and after it
        self.clocks, self.holds = clocks, holds  # functions of the clock; whether `for` is drawn
        self.series = []    # (pattern, values, whether it is there from the start)
        self.expected = {}  # pattern -> {label: values}
        self.matches = {}   # (pattern, values) -> {tick: value or None}

    @property
    def start(self):
        return self.lead * self.tick

    @property
    def end(self):
        return (self.lead + self.ticks) * self.tick

    def happen(self, rng):
        for pattern, labels in PATTERNS.items():
            # `expect:`: these values of each label, in every combination.
            expected = self.expected[pattern] = {label: rng.sample(LABELS[label], rng.randrange(1, 3)) for label in labels} \
                if labels and rng.random() < 0.4 else {}
            combinations = [()]
            for label in labels:
                combinations = [c + (v,) for c in combinations for v in LABELS[label]]
            for values in combinations:
                there = not labels or (bool(expected) and all(value in expected[label] for label, value in zip(labels, values)))
                self.series.append((pattern, values, there))
                happened = self.matches[pattern, values] = {}
                if rng.random() < 0.15:
                    continue  # it never comes
                centre, busy, tick = rng.choice([-8, 4, 20, 50]), rng.choice([0.1, 0.4, 0.8]), rng.randrange(0, 12)
                while tick < self.ticks:
                    for _ in range(rng.randrange(1, 12)):
                        if tick < self.ticks and rng.random() < busy:
                            grain = rng.choice([2, 8, 8])  # halves are rounded
                            value = None if rng.random() < 0.08 else centre + rng.randrange(-20 * grain, 20 * grain + 1) / grain
                            happened[self.lead + tick] = value
                        tick += 1
                    tick += rng.randrange(1, 14)
                # A series that is quiet for a day is forgotten.
                last = min(happened, default=self.ticks) - self.lead
                for tick in range(max(last, 0), self.ticks):
                    if self.lead + tick in happened:
                        last = tick
                    elif (tick - last + 1) * self.tick >= 86400:
                        happened[self.lead + tick], last = centre / 2, tick

    def at(self, tick):
        return tick * self.tick + self.phase


def duration(seconds):
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


def zero(labels):
    """What counts 0 in logbell when nothing has come, and is no element in PromQL."""
    text = "vector(0)"
    for name, value in labels:
        text = f'label_replace({text}, "{name}", "{value}", "", "")'
    return text


class Rules:
    """Draws expressions for a world."""

    def __init__(self, rng, world):
        self.rng, self.world = rng, world

    # --- what is selected

    def matchers(self, labels):
        rng, found = self.rng, []
        for label in labels:
            kind = rng.random()
            if kind < 0.72:
                continue
            values = LABELS[label]
            some = "|".join(rng.sample(values, rng.randrange(1, len(values) + 1)))
            found.append((label, *rng.choice([("=", rng.choice(values)), ("=", rng.choice(values)), ("!=", rng.choice(values)),
                                              ("=~", some), ("!~", some)])))
        return found

    def leaf(self, labels):
        """A function of a pattern with exactly these labels."""
        rng, world = self.rng, self.world
        pattern = rng.choice([name for name, has in PATTERNS.items() if frozenset(has) == labels])
        matchers = self.matchers(PATTERNS[pattern])
        selector = "{" + ",".join(f'{name}{op}"{value}"' for name, op, value in matchers) + "}" if matchers else ""
        ticks = rng.randrange(1, 9)
        window = f"[{duration(ticks * world.tick)}]"
        offset = f" offset {duration(rng.randrange(1, 7) * world.tick)}" if rng.random() < 0.2 else ""
        fixed = [(name, value) for name, op, value in matchers if op == "="]
        names = [name for name, _ in fixed]

        def written(function, series, first=""):
            return f"{function}({first}{series}{selector}{window}{offset})"
        kind = rng.choice(["count", "count", "count", "rate", "absent", "present", "values", "values", "values"])
        if kind in ("count", "rate"):
            count = written("sum_over_time", f"{pattern}_count")
            if fixed and len(fixed) == len(PATTERNS[pattern]):
                count = f"({count} or {zero(fixed)})"
            if kind == "count":
                return Expr((written("count_over_time", pattern), count), labels, lambda: min(ticks, rng.randrange(0, ticks + 2)), whole=True,
                            fixed=names)
            seconds = ticks * world.tick
            return Expr((written("rate", pattern), f"({count} / {seconds})"), labels, lambda: rng.randrange(0, ticks + 2) / seconds,
                        fixed=names)
        if kind == "absent":
            return Expr((written("absent_over_time", pattern), written("absent_over_time", f"{pattern}_event")), frozenset(names),
                        lambda: 1, whole=True, fixed=names)
        if kind == "present":
            return Expr((written("present_over_time", pattern), written("present_over_time", f"{pattern}_event")), labels, lambda: 1,
                        whole=True, fixed=names)
        function = rng.choice(["sum", "avg", "min", "max", "stddev", "stdvar", "quantile", "last"])
        first = f"{rng.choice(['0', '0.1', '0.5', '0.9', '0.99', '1'])}, " if function == "quantile" else ""
        draw = {"sum": lambda: rng.uniform(-60, 300), "stddev": lambda: rng.uniform(0, 15), "stdvar": lambda: rng.uniform(0, 200)}.get(
            function, lambda: rng.uniform(-20, 65))
        return Expr((written(f"{function}_over_time", pattern, first), written(f"{function}_over_time", f"{pattern}_value", first)), labels,
                    draw, exact=function not in ("avg", "stddev", "stdvar"), whole=function in ("sum", "min", "max", "last"), fixed=names)

    # --- what is made of it

    def vector(self, depth, labels=None):
        rng = self.rng
        if labels is None:
            labels = frozenset(rng.choice([(), ("a",), ("b",), ("a", "b"), ("a", "b")]))
        kind = rng.random()
        if depth <= 0 or kind < 0.25:
            for _ in range(20):
                leaf = self.leaf(labels)
                if leaf.labels == labels:
                    return leaf
            return self.leaf(frozenset()) if not labels else self.aggregate(0, labels)
        if kind < 0.45:
            return self.aggregate(depth, labels)
        if kind < 0.6:
            return self.function(depth, labels)
        if kind < 0.65:
            inner = self.vector(depth - 1, labels)
            return Expr(joined("-{}", inner.within(UNARY)), labels, lambda: -inner.draw(), UNARY, inner.exact, inner.whole, inner.fixed, inner.nan)
        if kind < 0.8:
            return self.with_number(depth, labels)
        if kind < 0.9:
            return self.arithmetic(self.vector(depth - 1, labels), self.vector(depth - 1, labels))
        if kind < 0.95:
            return self.joined_sets(depth, labels)
        if kind < 0.975:
            grouped = self.grouped(depth)
            if grouped.labels == labels:
                return grouped
        return self.compared(depth, labels)

    def number(self, depth):
        """A number, and what it is like."""
        rng, world = self.rng, self.world
        if depth > 0 and rng.random() < 0.12:
            inner = self.vector(depth - 1, frozenset())
            return Expr(joined("scalar({})", inner.text), None, inner.draw, exact=inner.exact, whole=inner.whole, nan=True)
        if depth > 0 and rng.random() < 0.1:
            left, right, op = self.number(0), self.number(0), rng.choice("+-*")
            return self.binary(op, "", left, right, None)
        if "time" in world.clocks and rng.random() < 0.3:
            every = rng.choice([300, 600, 1000])
            return Expr(both(f"time() % {every}"), None, lambda: rng.randrange(every), PRECEDENCE["%"], whole=True)
        if depth > 0 and rng.random() < 0.25:
            return self.chain()
        text = rng.choice(["0", "1", "2", "3", "5", "10", "0.5", "0.25", "4e1", "0x10", ".75", "-1", "-2.5"])
        value = float(int(text, 16)) if text.startswith("0x") else float(text)
        return Expr(both(text), None, lambda: value, UNARY if value < 0 else ATOM, whole=True)

    def chain(self):
        """Numbers and operators without any brackets: what binds stronger decides. Python's `**` and signs bind as PromQL's."""
        rng, text = self.rng, ""
        for i in range(rng.randrange(2, 6)):
            text += (rng.choice([" + ", " - ", " * ", " / ", " % ", " ^ ", " ^ ", " ^ "]) if i else "") + rng.choice(["", "", "", "-"]) + rng.choice("1234")
        try:
            # Its own text, of digits and operators; as fractions, for whole numbers grow without end.
            value = float(eval(re.sub(r"(\d)", r"\1.0", text).replace("^", "**")))
        except (ZeroDivisionError, OverflowError, TypeError):  # a complex number is none
            value = 1.0
        return Expr(both(text), None, lambda: value, 1, exact=False, nan=True)

    def aggregate(self, depth, labels):
        rng = self.rng
        more = frozenset(rng.choice([has for has in [(), ("a",), ("b",), ("a", "b")] if frozenset(has) >= labels]))
        inner = self.vector(depth - 1, more)
        operations = ["sum", "sum", "min", "max", "count", "group"]
        operations += ["avg"] if rng.random() < 0.7 else []
        # Of an infinite element Prometheus 2 says 0 where it comes first, and NaN where it does not.
        operations += ["stddev", "stdvar"] if not inner.nan else []
        operations += ["quantile"] if rng.random() < 0.5 else []
        # Which of equal ones a judge picks is its own business: only what hardly ever is equal is chosen from.
        operations += ["topk", "bottomk"] if more == labels and labels and inner.is_tie_free() and rng.random() < 0.8 else []
        op = rng.choice(operations)
        first, fixed, out = "", inner.fixed & labels, labels
        if op in ("topk", "bottomk"):
            first = f"{rng.choice(['1', '2', '3'])}, "
            grouping = rng.choice(["", "", "by (a)", "without (a)", "by (b)"])
        elif rng.random() < 0.5 and more:
            grouping = "without (" + ", ".join(sorted(more - labels)) + ")"
        else:
            grouping = "by (" + ", ".join(sorted(labels, reverse=rng.random() < 0.5)) + ")" if labels or rng.random() < 0.3 else ""
        if op == "quantile":
            first = f"{rng.choice(['0', '0.25', '0.5', '0.9', '1'])}, "
        word = op.upper() if rng.random() < 0.05 else op
        operand = joined("({}{})", both(first), inner.text)
        if not grouping:
            text = joined(word + "{}", operand)
        elif rng.random() < 0.7:
            text = joined(word + " " + grouping + " {}", operand)
        else:
            text = joined(word + "{} " + grouping, operand)
        if op == "sum" and not grouping:
            text = (text[0], f"({text[1]} or {zero([])})")
        size = 1
        for label in more - labels:
            size *= len(LABELS[label])
        draw = {"sum": lambda: sum(inner.draw() for _ in range(rng.randrange(1, size + 1))), "count": lambda: rng.randrange(1, size + 1),
                "group": lambda: 1, "stddev": lambda: abs(inner.draw() - inner.draw()) / 2,
                "stdvar": lambda: (inner.draw() - inner.draw()) ** 2 / 4}.get(op, inner.draw)
        exact = op in ("count", "group") or (inner.exact and (op in ("min", "max", "topk", "bottomk", "quantile") or (op == "sum" and inner.whole)))
        whole = op in ("count", "group") or (inner.whole and op in ("sum", "min", "max", "topk", "bottomk"))
        return Expr(text, out, draw, exact=exact, whole=whole, fixed=fixed, nan=inner.nan and op not in ("count", "group"))

    def function(self, depth, labels):
        rng, world = self.rng, self.world
        inner = self.vector(depth - 1, labels)
        names = ["abs", "sqrt", "exp", "ln", "log2", "log10", "clamp", "clamp_min", "clamp_max"]
        names += ["ceil", "floor", "round", "round_to", "sgn"] if inner.exact else []
        names += ["date"] if inner.exact and world.clocks else []
        names += ["vector"] if not labels else []
        name = rng.choice(names)
        if name == "vector":
            number = self.number(depth)
            return Expr(joined("vector({})", number.text), labels, number.draw, exact=number.exact, whole=number.whole, nan=number.nan)
        if name == "date":
            part = rng.choice(["minute", "hour", "day_of_week", "day_of_month", "days_in_month", "month", "year"])
            return Expr(joined(part + "({} * 3600)", inner.within(PRECEDENCE["*"])), labels, lambda: rng.randrange(0, 20), fixed=inner.fixed,
                        whole=not inner.nan, nan=inner.nan)
        if name == "round_to":
            return Expr(joined("round({}, " + rng.choice(["0.5", "2", "10", "0.1"]) + ")", inner.text), labels, inner.draw, fixed=inner.fixed,
                        nan=inner.nan)
        if name.startswith("clamp"):
            low, high = sorted(round(inner.draw()) for _ in range(2))
            if rng.random() < 0.05:
                low, high = high + 1, low
            arguments = {"clamp": f"{low}, {high}", "clamp_min": f"{low}", "clamp_max": f"{high}"}[name]
            return Expr(joined(name + "({}, " + arguments + ")", inner.text), labels, lambda: max(low, min(high, inner.draw())),
                        exact=inner.exact, whole=inner.whole, fixed=inner.fixed, nan=inner.nan)
        if name == "exp":
            large = inner
            inner = Expr(joined("{} / 16", large.within(PRECEDENCE["/"])), labels, lambda: large.draw() / 16, fixed=large.fixed,
                         nan=large.nan)
        compute = {"abs": abs, "ceil": math.ceil, "floor": math.floor, "round": round, "sgn": lambda x: (x > 0) - (x < 0),
                   "sqrt": lambda x: math.sqrt(max(x, 0)), "exp": lambda x: math.exp(min(x, 50)), "ln": lambda x: math.log(max(x, 1e-3)),
                   "log2": lambda x: math.log2(max(x, 1e-3)), "log10": lambda x: math.log10(max(x, 1e-3))}[name]
        same = name in ("abs", "ceil", "floor", "round", "sgn")
        return Expr(joined(name + "({})", inner.text), labels, lambda: compute(inner.draw()), exact=inner.exact and (same or name == "sqrt"),
                    whole=(inner.whole and name == "abs") or (same and name != "abs"), fixed=inner.fixed,
                    nan=inner.nan or not same)

    def with_number(self, depth, labels):
        rng = self.rng
        vector, number = self.vector(depth - 1, labels), self.number(depth)
        op = rng.choice(["+", "-", "*", "/", "%", "^"])
        if op == "%" and not (vector.exact and number.exact):
            op = "+"
        if op == "^":
            number = Expr(both(rng.choice(["2", "3"])), None, lambda: 2, whole=True)
            return self.binary(op, "", vector, number, labels, vector.fixed)
        pair = (vector, number) if rng.random() < 0.7 else (number, vector)
        return self.binary(op, "", *pair, labels, vector.fixed)

    def arithmetic(self, left, right):
        """Of two lists whose labels are the same."""
        rng = self.rng
        op = rng.choice(["+", "-", "*", "/", "%"])
        if op == "%" and not (left.exact and right.exact):
            op = "-"
        return self.binary(op, self.matching(left, right), left, right, left.labels, left.fixed & right.fixed)

    def matching(self, left, right):
        """Some way to say that all labels of both meet."""
        rng, labels = self.rng, left.labels
        if left.labels != right.labels:
            return " on (" + ", ".join(sorted(left.labels & right.labels)) + ")"
        return rng.choice(["", "", "", " on (" + ", ".join(sorted(labels)) + ")", " ignoring (" + rng.choice(["", "c"]) + ")"])

    def binary(self, op, matching, left, right, labels, fixed=(), boolean=False):
        strength = PRECEDENCE[op]
        # ^ is right-associative, everything else left. Brackets that nobody needs are written now and then.
        extra = 20 if self.rng.random() < 0.1 else 0
        word = op.upper() if op.isalpha() and self.rng.random() < 0.05 else op
        text = joined("{} " + word + (" bool" if boolean else "") + matching + " {}", left.within(max(extra, strength + (1 if op == "^" else 0))),
                      right.within(strength + (0 if op == "^" else 1)))

        def draw():
            a, b = left.draw(), right.draw()
            try:
                return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b, "%": lambda: math.fmod(a, b),
                        "^": lambda: a ** b}.get(op, lambda: self.rng.choice([0, 1]) if boolean else a)()
            except (ZeroDivisionError, OverflowError, ValueError):
                return 0.0
        exact = left.exact and right.exact
        whole = (left.whole and right.whole and op in "+-*") or boolean
        return Expr(text, labels, draw, strength, exact, whole, fixed, left.nan or right.nan or op in "/%")

    def compared(self, depth, labels):
        """Series of which a comparison leaves some, or says 0 or 1 of each."""
        rng = self.rng
        boolean = rng.random() < 0.4
        left = self.vector(depth - 1, labels)
        if rng.random() < 0.6:
            return self.against_threshold(left, boolean)
        right = self.vector(depth - 1, labels)
        op = rng.choice(COMPARISONS if left.exact and right.exact else [">", "<", ">=", "<="])
        matching = self.matching(left, right)
        return self.binary(op, matching, left, right, labels, left.fixed & right.fixed, boolean)

    def against_threshold(self, left, boolean=False):
        rng = self.rng
        likely = sorted(left.draw() for _ in range(15))[rng.randrange(3, 12)]
        if not math.isfinite(likely) or abs(likely) > 1e12:
            likely = 3.0
        if left.exact and rng.random() < 0.8:
            text, op = repr(round(likely)), rng.choice(COMPARISONS)
        else:
            # Nothing that a rounding could decide.
            text, op = f"{likely:.3f}7", rng.choice([">", "<", ">=", "<="])
        threshold = Expr(both(text), None, lambda: float(text), UNARY if text.startswith("-") else ATOM, whole=True)
        pair = (left, threshold) if rng.random() < 0.85 else (threshold, left)
        return self.binary(op, "", *pair, left.labels, left.fixed, boolean)

    def joined_sets(self, depth, labels):
        rng = self.rng
        op = rng.choice(["and", "or", "unless"])
        left = self.vector(depth - 1, labels)
        if op == "or":
            return self.binary(op, "", left, self.vector(depth - 1, labels), labels)
        other = frozenset(rng.choice([(), ("a",), ("b",), ("a", "b")]))
        right = self.vector(depth - 1, other)
        common = sorted(left.labels & right.labels)
        matching = ""
        if left.labels != right.labels or rng.random() < 0.3:
            matching = " on (" + ", ".join(rng.sample(common, rng.randrange(0, len(common) + 1))) + ")"
        if left.labels != right.labels and rng.random() < 0.3:
            matching = " ignoring (" + ", ".join(sorted(left.labels ^ right.labels)) + ")"
        return self.binary(op, matching, left, right, labels, left.fixed)

    def by_fixed_labels(self, depth):
        """Two lists of which one has a label more, that is the same in all of its elements: one to one without it."""
        rng = self.rng
        for _ in range(50):
            left, right = self.leaf(frozenset(["a", "b"])), self.vector(depth - 1, frozenset(["a"]))
            if "b" in left.fixed and left.labels == frozenset(["a", "b"]):
                matching = rng.choice([" on (a)", " ignoring (b)"])
                pair = (left, right) if rng.random() < 0.5 else (right, left)
                op = rng.choice(["+", "-", "*", ">", "<"])
                return self.binary(op, matching, *pair, frozenset(["a"]))
        return self.vector(depth)

    def grouped(self, depth):
        """Two lists of which one element of the one side meets several of the other's."""
        rng = self.rng
        many = self.vector(depth - 1, frozenset(rng.choice([("a", "b"), ("a", "b"), ("a",), ("b",)])))
        kind, copied = rng.random(), []
        if kind < 0.25 and len(many.labels) == 1:
            # A label that it has not, of which the other side has one value, or one at a time.
            common, copied = set(many.labels), sorted({"a", "b"} - many.labels)
            for _ in range(50):
                one = self.leaf(frozenset(["a", "b"]))
                if one.labels == frozenset(["a", "b"]) and (one.is_tie_free() or copied[0] in one.fixed):
                    break
            else:
                return many
            if copied[0] not in one.fixed:
                text = joined(rng.choice(["topk", "bottomk"]) + " by (" + ", ".join(common) + ") (1, {})", one.text)
                one = Expr(text, one.labels, one.draw, exact=one.exact, whole=one.whole, fixed=one.fixed, nan=one.nan)
        else:
            common = set(rng.sample(sorted(many.labels), rng.randrange(0, len(many.labels) + 1)))
            one = self.vector(depth - 1, frozenset(common))
            copied = [label for label in sorted(common) if rng.random() < 0.1]
        matching = f" on ({', '.join(sorted(common))})"
        if copied and set(copied) <= common or rng.random() < 0.3:
            # What `on` names cannot be copied; what `ignoring` leaves can, and is the same on both sides.
            matching = f" ignoring ({', '.join(sorted(many.labels ^ one.labels))})"
        left = rng.random() < 0.6
        word = "group_left" if left else "group_right"
        word = word.upper() if rng.random() < 0.05 else word
        labels = many.labels | frozenset(copied)
        fixed = (many.fixed - set(copied)) | (one.fixed & set(copied))
        op = rng.choice(["+", "-", "*", "/", *(COMPARISONS if many.exact and one.exact else [">", "<=", ">"])])
        boolean = op in COMPARISONS and rng.random() < 0.4
        pair = (many, one) if left else (one, many)
        brackets = f" ({', '.join(copied)})" if copied or rng.random() < 0.5 else ""
        out = self.binary(op, f"{matching} {word}{brackets}", *pair, labels, fixed, boolean)
        # An operand in brackets would be taken for labels.
        return out if brackets or not re.search(r"group_(left|right) \(", " ".join(out.text), re.I) else many

    def clock(self):
        rng = self.rng
        part = rng.choice([part for part in self.world.clocks if part != "time"])
        least, most = {"minute": (0, 59), "hour": (0, 23), "day_of_week": (0, 6), "day_of_month": (1, 31), "days_in_month": (28, 31),
                       "month": (1, 12), "year": (1970, 1971)}[part]
        return Expr(both(f"{part}()"), frozenset(), lambda: rng.randrange(least, most + 1), whole=True)

    def condition(self, depth):
        """What a rule can ask."""
        rng = self.rng
        kind = rng.random()
        if self.world.clocks and kind < 0.6:
            when, what = self.against_threshold(self.clock()), self.condition_without_clock(depth)
            op = rng.choice(["and", "and", "unless"])
            return self.binary(op, " on ()" if what.labels or rng.random() < 0.5 else "", what, when, what.labels, what.fixed)
        return self.condition_without_clock(depth)

    def condition_without_clock(self, depth):
        rng = self.rng
        kind = rng.random()
        if kind < 0.05:
            # Its value tells how the chain was read.
            sum_ = self.binary("+", "", self.leaf(frozenset(["a"])), self.chain(), frozenset(["a"]))
            return self.binary(">", "", sum_, Expr(both("-1e9"), None, lambda: -1e9, UNARY), frozenset(["a"]))
        if kind < 0.1 and self.world.tick == self.world.step:
            return self.often(self.against_threshold(self.vector(1)))
        if kind < 0.2:
            # One function of what is counted or said, and nothing that could hide what it gives.
            return self.against_threshold(self.function(1, frozenset(rng.choice([(), ("a",), ("a", "b")]))))
        if kind < 0.5:
            return self.against_threshold(self.vector(depth))
        if kind < 0.55:
            return self.against_threshold(self.by_fixed_labels(depth))
        if kind < 0.65:
            return self.against_threshold(self.grouped(depth))
        if kind < 0.75:
            labels = frozenset(rng.choice([(), ("a",), ("b",), ("a", "b")]))
            left, right = self.vector(depth - 1, labels), self.vector(depth - 1, labels)
            op = rng.choice(COMPARISONS if left.exact and right.exact else [">", "<", ">=", "<="])
            return self.binary(op, self.matching(left, right), left, right, labels)
        left, right = self.condition_without_clock(depth - 1) if depth > 1 else self.against_threshold(self.vector(1)), \
            self.against_threshold(self.vector(depth - 1))
        op = rng.choice(["and", "or", "unless"])
        if op == "or":
            return self.binary(op, "", left, right, left.labels | right.labels)
        matching = ""
        if left.labels != right.labels:
            matching = " on (" + ", ".join(sorted(left.labels & right.labels)) + ")"
        return self.binary(op, matching, left, right, left.labels, left.fixed)

    def often(self, inner):
        """What held at some of the last ticks: in PromQL a subquery, which looks at the same moments where rules are looked at on ticks.
        Of Prometheus 2 it is closed on both sides, too."""
        rng, step = self.rng, self.world.tick
        looks = rng.randrange(2, 5)
        least = rng.randrange(1, looks + 1)
        return Expr((f"m_of_n({inner.text[0]}, {least}, {looks}, {duration(step)})",
                     f"(count_over_time(({inner.text[1]})[{duration((looks - 1) * step)}:{duration(step)}]) >= {least})"),
                    inner.labels, lambda: rng.randrange(least, looks + 1), whole=True, fixed=inner.fixed)

    def rule(self, name):
        rng, world = self.rng, self.world
        expr = self.condition(rng.choice([1, 2, 2, 3, 3]))
        out = {"alert": name, "expr": expr.text}
        if world.holds and rng.random() < 0.4:
            out["for"] = duration(rng.choice([1, 2, 3, 5]) * world.step)
        if world.holds and rng.random() < 0.25:
            out["keep_firing_for"] = duration(rng.choice([1, 2, 4]) * world.step)
        out["labels"] = {"severity": rng.choice(["page", "ticket"])}
        if expr.labels and rng.random() < 0.3:
            label = rng.choice(sorted(expr.labels))
            out["labels"]["who"] = "{{ $labels." + label + " }}-" + label
        out["annotations"] = {"value": "{{ $value }}"}
        return out

