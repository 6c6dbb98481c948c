"""What a bench found, in sentences that claim no more than its points hold. Pure functions."""

from dlclient.bench_result import Point

from dlreport.bench.largest import largest_text
from dlreport.bench.loads import LoadTimes
from dlreport.bench.sweep import row_label, sweeps
from dlreport.bench.variant import describe
from dlreport.bench.view import BenchView, batch_sizes, best, images_per_s, models, per_image_s
from dlreport.quantity import count, milliseconds, significant


def answer(view: BenchView) -> str:
    """The headline: the most that was reached, or what there is instead."""
    if not view.points:
        return "No point has been measured."
    if not view.good:
        return "No point has figures: all failed."
    fastest = best(view.speed)
    if fastest is not None:
        return f"At most {significant(images_per_s(fastest) or 0.0)} images/s: {_named(view, fastest)}."
    return _others(view) or f"{_counted(len(view.good), 'point')} of {_counted(len(models(view.points)), 'network')}."


def amount(view: BenchView) -> str:
    """How much was measured, and how much of it is lost or not to quote."""
    told = [
        f"{_counted(len(view.points), 'point')} of {_counted(len(models(view.points)), 'network')}",
        f"{count(len(view.failed))} failed" if view.failed else "none failed",
    ]
    if view.doubtful:
        told.append(f"{count(len(view.doubtful))} not to quote")
    if not view.finished:
        told.append(
            f"{count(max(0, view.bench.points - len(view.points)))} of {count(view.bench.points)} still to come"
        )
    return ", ".join(told)


def lead(view: BenchView) -> str:
    """A sentence more on each question that was asked."""
    told = []
    quickest = best(
        (
            point
            for point in view.speed
            if point.setting.question != "throughput"
            and point.setting.batch_size == min(batch_sizes(view.speed), default=1)
        ),
        lambda point: 1 / seconds if (seconds := per_image_s(point)) else None,
    )
    if quickest is not None:
        told.append(
            f"Quickest at batch {quickest.setting.batch_size}: {_named(view, quickest, batch=False)},"
            f" {milliseconds(per_image_s(quickest) or 0.0)} ms per image."
        )
    told.append(_others(view))
    told += [
        f"Best setting for {sweep.model}: threads {row_label((sweep.best.setting.threads, sweep.best.setting.affinity))},"
        f" batch {sweep.best.setting.batch_size}."
        for sweep in sweeps(view)[:3]
        if sweep.best is not None
    ]
    return " ".join(part for part in told if part)


def stamps(view: BenchView) -> tuple[str, ...]:
    """Words across every picture of a bench whose figures are none to quote, or not all there are to come."""
    said = {
        "SIMULATED": view.simulated,
        "PARTLY SIMULATED": view.partly_simulated,
        "UNFINISHED": not view.finished,
    }
    return tuple(word for word, is_so in said.items() if is_so)


def _others(view: BenchView) -> str:
    """The largest batch of all, the most accurate network, and the one that takes longest to be ready."""
    told = []
    largest = best(view.of("max-batch"), lambda point: point.max_batch.largest if point.max_batch else None)
    if largest is not None and largest.max_batch is not None:
        told.append(f"The largest batch that fits: {largest_text(largest.max_batch)} of {largest.setting.model}.")
    right = best(view.good, lambda point: point.accuracy.top1 if point.accuracy else None)
    if right is not None and right.accuracy is not None:
        told.append(f"Most accurate: {right.setting.model}, top-1 {significant(right.accuracy.top1 * 100)} %.")
    cold = best(view.of("load"), lambda point: LoadTimes(point, point.load).cold_s if point.load else None)
    if cold is not None and cold.load is not None:
        seconds = LoadTimes(cold, cold.load).cold_s or 0.0
        told.append(f"Slowest from cold to its first answer: {cold.setting.model}, {milliseconds(seconds)} ms.")
    return " ".join(told)


def _named(view: BenchView, point: Point, *, batch: bool = True) -> str:
    place = describe(point.setting, besides=[one.setting for one in view.speed])
    size = f" at batch {point.setting.batch_size}" if batch else ""
    return f"{point.setting.model}{size} on {place}" if place else f"{point.setting.model}{size}"


def _counted(number: int, noun: str) -> str:
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")
