"""Stands in for the process that measures a point: speaks its protocol, and does what the name of its model says.

Figures come from the setting, so that two runs of a point give the same ones.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from dlclient.bench.job import Ended, Entered, Event, Failed, Job, Progress
from dlclient.bench_result import Failure, Point, Sample, Setting
from dlclient.results import Latency

CHILD = (sys.executable, "-X", "faulthandler", str(Path(__file__).resolve()))
LONG_S = 600.0
Tell = Callable[[Event | bytes], None]


def ended(setting: Setting) -> Ended:
    """A point that took 1 ms a batch, 12 times."""
    samples = tuple(Sample(index * 0.001, 0.001) for index in range(12))
    point = Point(
        id=setting.id, setting=setting, started="", seconds=0.0, iterations=12, images=12 * setting.batch_size, wall_s=0.012,
        images_per_s=setting.batch_size / 0.001, latency_s=Latency(mean=0.001, p50=0.001, p90=None, p99=None), simulated=True,
    )  # fmt: skip
    return Ended(point, samples)


def hang(_job: Job, _tell: Tell) -> None:
    grandchild = subprocess.Popen(["sleep", str(LONG_S)])
    print("grandchild", grandchild.pid, flush=True)
    time.sleep(LONG_S)


def wait_at_gate(job: Job, tell: Tell) -> None:
    """While there is a pipe `gate` in the repository: say so there, and hang, so that it tells our end too; else measure."""
    gate = Path(job.repository) / "gate"
    if gate.is_fifo():
        with gate.open("w") as pipe:
            print(os.getpid(), file=pipe, flush=True)
            time.sleep(LONG_S)
    measure(job, tell)


def lose_memory(job: Job, _tell: Tell) -> None:
    """As if the kernel had killed us for it: the counter of `oom_kill` below the repository is one higher then."""
    (Path(job.repository) / "proc/vmstat").write_text("pgfree 7\noom_kill 4\n")
    os.kill(os.getpid(), signal.SIGKILL)


def linger(job: Job, tell: Tell) -> None:
    """End, but leave behind a process that holds the pipe."""
    tell(ended(job.setting))
    subprocess.Popen(["sleep", str(LONG_S)], close_fds=False)


def measure(job: Job, tell: Tell) -> None:
    tell(ended(job.setting))


def out_of_memory(_job: Job, tell: Tell) -> None:
    tell(Failed(Failure(kind="out-of-memory", stage="measure", text="no memory for a batch of 64: send fewer images")))


ACTS: dict[str, Callable[[Job, Tell], object]] = {
    "hang": hang,
    "gate": wait_at_gate,
    "starved": lose_memory,
    "lingers": linger,
    "failed": out_of_memory,
    "segfault": lambda *_: os.kill(os.getpid(), signal.SIGSEGV),
    "killed": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda *_: sys.exit("this cannot go well"),
    "silent": lambda *_: None,
    "garbage": lambda _, tell: tell(b"x" * 100),
    "other": lambda job, tell: tell(ended(msgspec.structs.replace(job.setting, model="another"))),
}
"""Name of the model -> what happens; of any other, the point is measured."""


def main() -> None:
    """Act."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    pipe = int(sys.argv[sys.argv.index("--events-fd") + 1])
    os.set_inheritable(pipe, True)

    def tell(event: Event | bytes) -> None:
        os.write(pipe, (event if isinstance(event, bytes) else msgspec.json.encode(event)) + b"\n")

    print("measuring", job.setting.model, flush=True)
    tell(Entered("measure", job.budget.iteration_timeout_s))
    tell(Progress(0.5))
    ACTS.get(job.setting.model, measure)(job, tell)


if __name__ == "__main__":
    main()
