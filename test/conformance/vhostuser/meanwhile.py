# SPDX-License-Identifier: BSD-3-Clause
"""What is done again and again while a test does something else.

Base of flow.py, and of what tests do meanwhile themselves.
"""

import threading


class Meanwhile:
    """While a `with` block lasts a thread of its own calls step(); its error is told at the end."""

    def __init__(self):
        self.count = 0
        self.error = None
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def step(self):
        raise NotImplementedError

    def _run(self):
        try:
            while not self.end.is_set():
                self.step()
        except Exception as error:      # told by __exit__
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()
        assert self.error is None, repr(self.error)
