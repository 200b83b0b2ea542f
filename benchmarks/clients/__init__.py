"""The same work, written for each client. Every module has a ``Client`` with the same methods.

``info`` ``attach`` ``ping`` ``true`` ``session`` ``run`` ``callback`` ``iterate`` ``upload_bytes`` ``upload_file``
``download_bytes`` ``download_iter`` ``download_file`` ``lifecycle`` ``for_thread`` ``close``. A method that a client
has no way to do is left out, and the case shows a dash for it. A run answers ``(text, exit code)``, so that the driver
can check that the work was really done.
"""

#: The sandbox that the benchmark's server always has.
SANDBOX_ID = "5e5c0f0e-6141-4418-82d1-8be1b907e7d9"
