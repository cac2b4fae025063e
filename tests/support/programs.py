"""Running a program as its users do; what the tests of programs share."""

import json
import struct
import subprocess
from pathlib import Path


def run(*command, status=0, stdin=None):
    """Runs a program; fails the test unless it ends with `status` and without a signal."""
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True,
                          text=True, timeout=600)
    if done.returncode != status:
        raise AssertionError(f"{command}: status {done.returncode}, expected {status}\n{done.stderr}")
    return done


def read_safetensors(path):
    """Header of a container, and its raw data."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]
