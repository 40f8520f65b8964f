"""`python -m tests.docs.listening PID PORT` waits until something listens there; 0 is no port.

Exits with 1 when the process ends before, or after two minutes.
"""

import os
import socket
import sys
import time


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


process, port = map(int, sys.argv[1:])
started = time.monotonic()
while alive(process) and time.monotonic() < started + 120:
    if listens(port) if port else time.monotonic() > started + 8:
        sys.exit(0)
    time.sleep(0.1)
sys.exit(f"nothing listens on port {port}")
