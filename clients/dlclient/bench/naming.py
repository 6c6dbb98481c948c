"""What a point is called where people read it."""

from dlclient.bench_result import Setting


def describe(setting: Setting) -> str:
    """A setting in a few words: "vgg16 torch cpu latency batch 4"."""
    words = [setting.model, setting.engine, setting.device, setting.precision, setting.question]
    if setting.question not in ("max-batch", "load"):
        words.append(f"batch {setting.batch_size}")
    if setting.question == "throughput":
        words.append(f"{setting.in_flight or 'best'} in flight")
    if setting.threads is not None:
        words.append(f"{setting.threads} threads" if setting.threads > 1 else "1 thread")
    if setting.affinity:
        words.append(f"on CPUs {setting.affinity}")
    words += [setting.input, *(f"{name}={value}" for name, value in setting.options.items())]
    return " ".join(word for word in words if word)
