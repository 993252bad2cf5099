"""The SLURM script, with stand-ins for SLURM's commands: what it does when the time is nearly up."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rfdetr_hwd.training.trackers import read_metrics
from tests.integration.runs import finish, last_step, read_until

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm.sbatch"
STAND_INS = {
    "srun": """while [[ $1 == --* ]]; do shift; done
"$@" &
echo $! > "${0%/*}/step"
trap 'kill -KILL $(cat "${0%/*}/step")' TERM  # as SLURM's does
wait $!""",
    "scancel": '[[ $* == "--signal=TERM ${SLURM_JOB_ID}.0" ]] && kill -TERM "$(cat "${0%/*}/step")"',
    "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    "scontrol": '[[ $1 == show ]] && echo localhost || echo "scontrol $*"',
}


@pytest.mark.slow
def test_the_job_saves_and_is_queued_again(config_file: Path, tmp_path: Path) -> None:
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    run = tmp_path / "run"
    environment = {
        **{"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node[1-1]", "SLURM_NNODES": "1"},
        **{"SLURM_CPUS_PER_TASK": "2", "SLURM_GPUS_ON_NODE": "2", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }

    def submit() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["bash", SCRIPT, "--config", config_file, f"output.dir={run}", "data.workers=1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )

    job = submit()
    read_until(job, "step 2/12")
    job.send_signal(signal.SIGUSR1)  # to the script alone, as --signal=B: says
    status, output = finish(job)
    assert status == 0, output
    assert output.splitlines()[-1] == f"scontrol requeue {os.getpid()}"
    reached = last_step(run)
    assert 2 <= reached < 12
    status, output = finish(submit())
    assert status == 0, output
    assert f"at step {reached}" in output
    assert [record["step"] for record in read_metrics(run / "metrics.jsonl") if "loss" in record] == [*range(1, 13)]
