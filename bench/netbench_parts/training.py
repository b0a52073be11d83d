"""The page's section on training: when each way of reducing gradients has reached the accuracy asked for."""

import statistics

from .words import markdown


def training(step):
    """The lines of a step that was run."""
    document = step["document"]
    runs = document["runs"]
    lines = [
        f"examples/demo.py's network (2.1 million parameters), {document['ranks']} ranks at {step['link']}, "
        f"{len(runs)} seeds: seconds of training until the mean of three looks at the test accuracy, every "
        f"{document['every']} steps, is at {document['target']:.0%}. All ways train in turns, step by step, in one "
        "run. The hooks are PyTorch's, over Gloo.",
        "",
    ]
    cells = []
    for k, way in enumerate(runs[0]["ways"]):
        mine = [run["ways"][k] for run in runs]
        cells.append(
            [
                way["name"],
                spread([m["seconds_to_target"] for m in mine], "{:.2f} s"),
                *(gain(runs, k, base) for base in (0, 1)),
                spread([m["steps_to_target"] for m in mine], "{:.0f}"),
                f"{statistics.median(m['step_seconds'] for m in mine) * 1e3:.1f} ms",
                f"{statistics.median(m['bytes_a_step'] for m in mine) / 1e6:.3f} MB",
                f"{statistics.median(m['final_accuracy'] for m in mine):.3f}",
            ]
        )
    titles = [
        "",
        "time to accuracy",
        "against fp32",
        "against the fp16 hook",
        "steps",
        "a step",
        "sent a rank and step",
        "final accuracy",
    ]
    return lines + markdown(titles, cells)


def spread(values, form):
    reached = [v for v in values if v is not None]
    if not reached:
        return "not reached"
    text = form.format(statistics.median(reached))
    if len(reached) > 1:
        text += f" ({form.format(min(reached))}-{form.format(max(reached))})"
    return text if len(reached) == len(values) else f"{text}, {len(reached)} of {len(values)} seeds"


def gain(runs, k, base):
    ratios = [
        run["ways"][base]["seconds_to_target"] / run["ways"][k]["seconds_to_target"]
        for run in runs
        if run["ways"][base]["seconds_to_target"] and run["ways"][k]["seconds_to_target"]
    ]
    return f"{statistics.median(ratios):.2f}x" if ratios else "-"
