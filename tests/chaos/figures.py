"""What scenarios measured: percentiles, the table in docs/RELIABILITY.md, the JSON beside it. For scripts/chaos."""

import json
import os
import re

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"


def percentiles(values):
    """{"p50", "p99", "max"}, rounded; nothing for nothing."""
    if not values:
        return {}
    ordered = sorted(values)
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]
    return {"p50_ms": round(at(0.5), 1), "p99_ms": round(at(0.99), 1), "max_ms": round(ordered[-1], 1)}


def words(figures):
    return ", ".join(f"{key.removesuffix('_ms').replace('_', ' ')} {value}{' ms' if key.endswith('_ms') else ''}" for key, value in figures.items())


def row(result):
    outcome = result.get("skipped")
    outcome = f"skipped: {outcome}" if outcome else f"{result['count']} trials, {len(result['problems'])} failures"
    return f"| {result['id']} | {result['what']} | {outcome} | {words(result['figures'])} | {result['when']} |"


def load(directory):
    results = {}
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        if name.endswith(".json"):
            with open(os.path.join(directory, name)) as file:
                result = json.load(file)
            results[result["id"]] = result
    return results


def order(identity):
    number = re.match(r"R(\d+)", identity)
    return int(number[1]) if number else 99, identity


def write(page, results):
    """Keeps each scenario's last result in a file beside the page and makes the table from all of them."""
    directory = os.path.join(os.path.dirname(page), "reliability")
    os.makedirs(directory, exist_ok=True)
    for result in results:
        with open(os.path.join(directory, f"{result['id'].replace(' ', '-')}.json"), "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")
    known = load(directory)
    lines = ["| id | fault | outcome | figures | command and date |", "|---|---|---|---|---|"]
    lines += [row(known[identity]) for identity in sorted(known, key=order)]
    with open(page) as file:
        text = file.read()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"chaos: {page} has no lines {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    with open(page, "w") as file:
        file.write(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)
