"""Nipype's plugin for the cores of one machine, made to survive the death of a worker."""

from concurrent.futures.process import BrokenProcessPool
from typing import Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin

from bids_app.errors import NO_THREAD
from bids_app.launch import kill_workers


class MultiProc(MultiProcPlugin):
    """Nipype's plugin, which waits for ever for a worker that was killed, made to notice.

    So it does if the thread that feeds the workers ended, for want of one more thread.
    """

    def _async_callback(self, future: Any) -> None:
        if not future.exception():
            super()._async_callback(future)

    def _get_result(self, taskid: int) -> Any:
        is_fed = self.pool._executor_manager_thread.is_alive()
        future = self._task_obj[taskid]
        if not is_fed and not future.done():
            return {"result": None, "traceback": [f"RuntimeError: {NO_THREAD}\n"]}
        if future.done() and (error := future.exception()):
            killed = isinstance(error, BrokenProcessPool)
            what = "a worker process was killed" if killed else f"{type(error).__name__}: {error}"
            # As a list of lines: that is what reports of crashes are made from.
            return {"result": None, "traceback": [f"{what}\n"]}
        return super()._get_result(taskid)

    def _postrun_check(self) -> None:
        """End the workers; all results are in.

        Asked to end, they would read that from a queue one after the other, under a lock that a
        worker killed meanwhile takes with it.
        """
        kill_workers()
        super()._postrun_check()
