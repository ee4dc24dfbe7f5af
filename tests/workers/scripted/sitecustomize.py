"""Puts a scripted ``pst.pipeline`` in the place of the real one, in every process that has this folder on PYTHONPATH.

It keeps the pipeline's contract and does what the environment variable SCRIPT says, so that a worker's handling of its
child is tested with real processes and signals, without the seconds that torch takes to import.
"""

import json
import os
import signal
import subprocess
import sys
import time
import types

import made


class Stopped(Exception):
    pass


def run(folder, *, emit, should_stop, peers=None):
    from pst.errors import PSTError

    script = os.environ["SCRIPT"]
    spec = json.loads((folder / "spec.json").read_text())
    if script == "by seed":
        script = ["refuse", "memory", "break", "exit"][spec["settings"]["seed"]]
    print("standard output is free for libraries", flush=True)
    assert (folder / spec["train"]).is_file()
    if spec["train"] == "data/train.jsonl":  # as a worker prepares it
        assert json.loads((folder / "data/train.lines.json").read_text())["file"] == "intents.csv"
    assert (folder / spec["base_model"] / "config.json").is_file()
    assert not [name for name in os.environ if name.startswith("SPARSEWRIGHT_")], "credentials reached the child"
    step = 0
    if (folder / "resume.safetensors").is_file():
        step = json.loads((folder / "resume.safetensors").read_text())["step"]
        emit({"type": "log", "level": "info", "message": f"Going on from the checkpoint of step {step}."})
        script = "quick"
    emit({"type": "phase", "phase": "prepare", "index": 0, "of": 7})

    def checkpoint():
        path = folder / "checkpoints" / f"{step:06d}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"step": step}))
        emit({"type": "checkpoint", "path": f"checkpoints/{path.name}", "step": step, "phase": "train", "bytes": 1})
        for old in sorted(path.parent.iterdir())[:-2]:
            old.unlink()

    if script == "refuse":
        raise PSTError("The label 'b' is in the validation rows but not in training rows.")
    if script == "memory":
        raise MemoryError
    if script == "break":
        print("last words of the library", flush=True)
        raise RuntimeError("a bug")
    if script == "exit":
        os._exit(3)
    if script == "descendant":
        started = subprocess.Popen(["sleep", "600"])
        emit({"type": "log", "level": "info", "message": f"descendant {started.pid}"})
    while script in ("peers", "peer dies"):
        step += 1
        if script == "peer dies" and peers.rank == 1 and step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        if peers.all_reduce_max(should_stop())[0]:
            raise Stopped
        emit({"type": "progress", "phase": "train", "step": step, "total_steps": 100000, "loss": 0.5})
        time.sleep(0.02)
    while script in ("long", "deaf", "descendant"):
        step += 1
        emit({"type": "progress", "phase": "train", "step": step, "total_steps": 100000, "loss": float("nan")})
        if step % 5 == 0:
            checkpoint()
        if should_stop() and script != "deaf":
            checkpoint()
            raise Stopped
        time.sleep(0.02)
    if script == "slowly":
        time.sleep(1)
    checkpoint()
    for path, content in made.export(f"step {step}").items():
        target = folder / "export" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    report = {**made.REPORT, "step": step}
    (folder / "export" / "report.json").write_text(json.dumps(report))  # as a real run does
    return report


module = types.ModuleType("pst.pipeline")
module.run, module.Stopped = run, Stopped
sys.modules["pst.pipeline"] = module

if os.environ.get("NEWER"):
    import newer

    newer.install()
