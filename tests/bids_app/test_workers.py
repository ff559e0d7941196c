"""Nipype's plugin with the deaths of workers: no run may wait for ever."""

import os
import signal
import threading

from bids_app.workers import MultiProc


def test_a_worker_that_cannot_be_asked_to_end():
    """So are those left by one that was killed with the lock of their queue; one stopped, here."""
    plugin = MultiProc(plugin_args={"n_procs": 2, "memory_gb": 1})
    assert [*plugin.pool.map(abs, [-1, -2])] == [1, 2]
    workers = [*plugin.pool._processes.values()]
    os.kill(workers[0].pid, signal.SIGSTOP)
    end = threading.Thread(target=plugin._postrun_check, daemon=True)
    end.start()
    end.join(10)
    hangs = end.is_alive()
    for worker in workers:
        worker.kill()
    assert not hangs
