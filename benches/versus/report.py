"""What the rounds have found: medians, spreads and ratios as text, JSON, a page and a picture."""

import html
import json
import math
import statistics

FIGURE_WIDTH = 37


def median_and_spread(values):
    """The median, and half of the way from the least to the most as a share of it; None where there is but one."""
    middle = statistics.median(values)
    if len(values) < 2:
        return middle, None
    return middle, (max(values) - min(values)) / 2 / middle if middle else 0.0


def number(value):
    if value is None:
        return "–"
    if value != 0 and abs(value) < 0.01:
        return f"{value:.4f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def rows(measurements, found):
    """One row per figure: a dictionary. `found[name][kind]` is a list of figures by name, one per round."""
    table = []
    for measurement in measurements:
        by_kind = found.get(measurement.name, {})
        names = dict.fromkeys(name for kind in by_kind.values() for figures in kind for name in figures)
        limits = {}
        for limit in measurement.limits:
            limits.setdefault(limit.figure, []).append(limit)
        for figure in names:
            if figure not in limits and figure not in measurement.show:
                continue
            row = {"measurement": measurement.name, "what": measurement.what, "figure": figure, "kafka": None, "raftsman": None,
                   "kafka_spread": None, "raftsman_spread": None, "ratio": None, "limits": [], "missed": [], "judged": False, "bound": measurement.bound}
            for kind, rounds in by_kind.items():
                values = [figures[figure] for figures in rounds if figures.get(figure) is not None]
                if values:
                    row[kind], row[f"{kind}_spread"] = median_and_spread(values)
            # what the machine can do is no broker's
            is_bare = figure.startswith(("bare ", "to "))
            if row["kafka"] and row["raftsman"] is not None and not is_bare:
                row["ratio"] = row["raftsman"] / row["kafka"]
            for limit in limits.get(figure, []):
                value = row["ratio"] if limit.ratio else row["raftsman"]
                row["limits"].append(limit.words())
                row["judged"] |= value is not None
                if value is not None and not limit.stands(value):
                    row["missed"].append(limit.words())
            table.append(row)
    return table


def text(table):
    """A table for people. A row whose limit is missed ends with it."""
    lines = [f"{'':<{FIGURE_WIDTH + 2}}{'Kafka':>12}{'±':>6}{'Raftsman':>12}{'±':>6}{'ratio':>9}  limit"]
    last = None
    for row in table:
        if row["measurement"] != last:
            lines.append(f"\n{row['what']}")
            last = row["measurement"]
        spread = {kind: "" if row[f"{kind}_spread"] is None else f"{row[f'{kind}_spread'] * 100:.0f}%" for kind in ("kafka", "raftsman")}
        verdict = ", ".join(row["limits"])
        if row["judged"]:
            verdict += "   MISSED" if row["missed"] else "   stands"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        lines.append(f"  {row['figure']:<{FIGURE_WIDTH}}{number(row['kafka']):>12}{spread['kafka']:>6}{number(row['raftsman']):>12}"
                     f"{spread['raftsman']:>6}{ratio:>9}  {verdict}".rstrip())
    return "\n".join(lines) + "\n"


def page(table, about):
    """docs/benchmarks.md."""
    lines = [
        "# Benchmarks", "",
        "<!-- Made by `benches/versus/run --write-docs`; do not change by hand. -->", "",
        "One node beside Apache Kafka 4.3.0, both on the same machine and disk with equal settings, in turn and in both orders, "
        "Kafka's JVM warmed up before each measurement. Costs are CPU time of the broker's process (user and system); bytes are "
        "those of whole batches. What was written is checked against what the broker holds, what is read against what it held. "
        "Figures that begin with “bare” come from a program that moves the same bytes with system calls alone (and checks them where "
        "a broker has to), measured beside the row: the least that the row takes on this machine.", "",
        "A virtual machine that gives free memory back to its host may pay ten times as much for the first write into each page, "
        "at random for whoever comes to it; so free memory is written to once before each measurement that writes much, for both "
        "brokers alike. Bare writes to files before and after each broker's turn show whether the machine was in the same state.", "",
        "Where TCP's congestion control is BBR, Raftsman leaves connections within the machine out of it, which Kafka and the bare "
        "program do not: [ADR 3](adr/0003-nothing-is-paced-within-the-machine.md) has the figures for both.", "",
        f"{about['when']}, {about['machine']}; median of {about['rounds']} {'short ' if about['quick'] else ''}rounds, ± half of the spread.", "",
        "![Broker CPU, Raftsman as a share of Kafka](benchmarks.svg)", "",
        "| | figure | Kafka | Raftsman | ratio | limit |", "|---|---|---:|---:|---:|---|",
    ]
    last = None
    for row in table:
        what = row["what"] if row["measurement"] != last else ""
        last = row["measurement"]
        cells = []
        for kind in ("kafka", "raftsman"):
            spread = row[f"{kind}_spread"]
            cell = "" if row[kind] is None else number(row[kind])
            cells.append(cell if spread is None else f"{cell} ± {spread * 100:.0f} %")
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        limit = ", ".join(row["limits"])
        if row["missed"]:
            limit = f"**missed:** {limit}"
        lines.append(f"| {what} | {row['figure']} | {cells[0]} | {cells[1]} | {ratio} | {limit} |")
    bounds = {row["what"]: row["bound"] for row in table if row["missed"] and row["bound"]}
    if bounds:
        lines += ["", "What bounds the rows that miss a limit:", "", *(f"- {what}: {bound}" for what, bound in bounds.items())]
    return "\n".join(lines) + "\n"


def picture(table):
    """Bars: what the broker's CPU comes to as a share of Kafka's, with the limit as a mark. One per measurement."""
    bars, seen = [], set()
    for row in table:
        if row["ratio"] and row["figure"].startswith("CPU") and row["measurement"] not in seen:
            bound = next((float(words.split()[1]) for words in row["limits"] if words.endswith("×")), None)
            bars.append((row["what"], row["ratio"], bound))
            seen.add(row["measurement"])
    left, width, step, top = 460, 420, 26, 46
    height = top + step * len(bars) + 20
    most = max([1.0, *(ratio for _, ratio, _ in bars)])
    scale = width / (math.ceil(most * 4) / 4)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 80} {height}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{left}" y="20" fill="#333">broker CPU, Raftsman as a share of Kafka 4.3.0 (shorter is better)</text>',
    ]
    for place, (what, ratio, bound) in enumerate(bars):
        y = top + place * step
        color = "#b3261e" if bound is not None and ratio > bound else "#2f6f4f"
        out.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end" fill="#333">{html.escape(what[:62])}</text>')
        out.append(f'<rect x="{left}" y="{y}" width="{max(1.0, ratio * scale):.1f}" height="16" fill="{color}"/>')
        x, after = left + (bound or 0) * scale, left + ratio * scale
        # the number stands behind the mark where it would stand on it
        after = x if after <= x < after + 36 else after
        out.append(f'<text x="{after + 6:.1f}" y="{y + 13}" fill="#333">{ratio:.2f}</text>')
        if bound is not None:
            out.append(f'<line x1="{x:.1f}" y1="{y - 3}" x2="{x:.1f}" y2="{y + 19}" stroke="#000" stroke-width="2"/>')
    x = left + scale
    out.append(f'<line x1="{x:.1f}" y1="{top - 10}" x2="{x:.1f}" y2="{height - 14}" stroke="#888" stroke-dasharray="4 3"/>')
    out.append(f'<text x="{x:.1f}" y="{height - 2}" text-anchor="middle" fill="#888">Kafka</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def as_json(table, found, about):
    return json.dumps({"about": about, "rows": table, "rounds": found}, indent=1, ensure_ascii=False) + "\n"
