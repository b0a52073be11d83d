"""What the README says of the figures."""

from .figures import worst
from .plan import AUTO, FAR, FOUR_BITS, PACKED, TOPK
from .training import gain
from .words import markdown, name_of


def readme(figures):
    """A few lines for the README."""

    def best(section, label, name, over):
        return figures.ratio(figures.step(section, label), name, over)

    env = next(iter(figures.sections.values()))["environment"]
    lines = [
        f"Two ranks, 64 MiB of fp32, {env['cores']} cores of {env['cpu']}; times as fast as Gloo in the same rounds:",
        "",
    ]
    rows = []
    for name in (FOUR_BITS, "maxmin:bits=8", "natural8", TOPK, PACKED, "none", AUTO):
        cells = [
            best("1g", "n=2", name, "gloo"),
            best("far", FAR, name, "gloo"),
            best("10g", "n=2", name, "gloo"),
            best("loopback", "n=2", name, "gloo"),
            best("shm", "large", name, "gloo"),
            best("shm", "large", name, "openmpi"),
        ]
        if any(cells):
            rows.append([name_of(name), *(f"{cell.median:.1f}x" if cell else "-" for cell in cells)])
    lines += markdown(["", "1 Gb/s", "1 Gb/s, round trip of 40 ms", "10 Gb/s", "loopback", "shared memory", "shared memory, against Open MPI"], rows)
    runs = (figures.step("training", "training") or {}).get("document", {}).get("runs", [])
    for k, way in enumerate(runs[0]["ways"] if runs else []):
        if way["name"] == "max-min 4 bits" and gain(runs, k, 0) != "-":
            target = figures.step("training", "training")["document"]["target"]
            lines += [
                f"Training to {target:.0%} accuracy, 1 Gb/s, 4 bits: {gain(runs, k, 0)} as fast as Gloo in fp32, "
                f"{gain(runs, k, 1)} as fast as PyTorch's fp16 hook.",
                "",
            ]
    off = worst(figures.everywhere("none", "gloo"))
    if off:
        lines += [f"Uncompressed, the worst of all links and sizes: {off.median:.2f}x Gloo ({off.where}).", ""]
    return lines
