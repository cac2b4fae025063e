"""A Slurm cluster on this machine alone: a controller, and nodes which can be killed.

Needs root, and Debian's slurmctld, slurmd, slurm-client and munge. Nothing of the machine's own
configuration is used or changed.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")

# Small times, so that a death is noticed soon. cred_expire is what a task waits for before it
# starts again; Slurm takes nothing smaller.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
SlurmdTimeout=5
KillWait=2
MessageTimeout=5
ReturnToService=2
"""


def missing():
    """Why there can be no cluster here, or nothing."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return "no " + ", ".join(absent)
    return "" if os.geteuid() == 0 else "not root"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until(condition, seconds, what):
    """What `condition` gives, when that is true."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


class Process:
    """One process, as /proc shows it."""

    def __init__(self, number):
        folder = Path("/proc", str(number))
        self.number = number
        self.environment = set((folder / "environ").read_bytes().split(b"\0"))
        self.command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        self.zombie = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"

    def kill(self):
        try:
            os.kill(self.number, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Cluster:
    def __init__(self, nodes):
        # Not where TMPDIR says: a socket's path has to be short.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
        self.nodes = [f"node{i + 1}" for i in range(nodes)]
        self.environment = dict(os.environ, SLURM_CONF=str(self.folder / "slurm.conf"))
        for name in [n for n in self.environment if re.match("(SBATCH|SQUEUE|SLURM)_", n)]:
            if name != "SLURM_CONF":
                del self.environment[name]
        self.daemons = []

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            for log in sorted(self.folder.glob("*.log")):
                print(f"{log.name}:\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _start(self):
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        host = socket.gethostname().split(".")[0]
        ports = free_ports(1 + len(self.nodes))
        text = CONFIGURATION.format(host=host, folder=self.folder, ports=ports)
        for name, port in zip(self.nodes, ports[1:]):
            text += f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1\n"
        text += "PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
        (self.folder / "slurm.conf").write_text(text)
        # Left to find out, it stops where there are no control groups. This version uses none unasked.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        names = ("socket", "key-file", "log-file", "pid-file", "seed-file")
        self._daemon("munged", "--foreground", "--force",
                     *(f"--{n}={self.folder}/munge.{n.split('-')[0]}" for n in names))
        wait_until((self.folder / "munge.socket").exists, 20, "the socket of munged")
        self._daemon("slurmctld", "-D")
        for name in self.nodes:
            self.start_node(name)
        wait_until(lambda: set(self.states().values()) == {"idle"}, 30, "idle nodes")

    def _daemon(self, *command, **variables):
        with open(self.folder / "daemons.log", "ab") as log:
            self.daemons.append(subprocess.Popen(
                command, env=dict(self.environment, **variables), cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))

    def start_node(self, name):
        # Jobs have this variable from Slurm; it tells which processes are the node's.
        self._daemon("slurmd", "-D", "-N", name, SLURMD_NODENAME=name)

    def run(self, *command, status=0, **options):
        """Runs a program of a user of this cluster; fails unless it ends with `status`."""
        done = subprocess.run([str(part) for part in command], env=self.environment, text=True,
                              capture_output=True, timeout=300, **options)
        if status is not None and done.returncode != status:
            raise AssertionError(f"{command}: status {done.returncode}, expected {status}\n"
                                 f"{done.stdout}{done.stderr}")
        return done

    def states(self):
        """The state of each node; none as long as the controller does not answer."""
        done = self.run("sinfo", "-h", "-N", "-o", "%N %T", status=None)
        return dict(line.split() for line in done.stdout.splitlines())

    def job(self, job):
        """What Slurm knows of a job or a task: JobState, Restarts, ..."""
        text = self.run("scontrol", "-o", "show", "job", job).stdout
        return dict(re.findall(r"(\w+)=(\S*)", text))

    def queue(self):
        """State and node of what has not ended, by job or task."""
        lines = self.run("squeue", "-h", "-r", "-o", "%i %T %N").stdout.splitlines()
        return {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines}

    def processes(self, node=None):
        """The daemons of the cluster, or of one node, and the processes of its jobs."""
        mark = f"SLURM_CONF={self.folder}/slurm.conf"
        marks = {mark.encode()} | ({f"SLURMD_NODENAME={node}".encode()} if node else set())
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                process = Process(int(name))
            except OSError:  # another's, or ended
                continue
            if marks <= process.environment and not process.zombie:
                found.append(process)
        return found

    def kill_node(self, node):
        """A node without power: its daemon and all processes of its jobs are gone at once."""
        while found := self.processes(node):
            for process in found:
                process.kill()

    def kill_daemon(self, node):
        """A node cut off: Slurm takes it for dead, but what it runs goes on."""
        for process in self.processes(node):
            if process.command[0] == "slurmd":
                process.kill()

    def stop(self):
        """Leaves no process and no file behind, whatever happened before."""
        while found := self.processes():
            for process in found:
                process.kill()
            time.sleep(0.05)
        for daemon in self.daemons:
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
