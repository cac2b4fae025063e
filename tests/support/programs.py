"""Running a program as its users do; what the tests of programs share."""

import subprocess


def run(*command, status=0, stdin=None):
    """Runs a program; fails the test unless it ends with `status` and without a signal."""
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True,
                          text=True, timeout=600)
    if done.returncode != status:
        raise AssertionError(f"{command}: status {done.returncode}, expected {status}\n{done.stderr}")
    return done
