"""Exercises: test an answer, reveal a hint, see how far one is.

>>> from course_lib.coursework import check, hint
>>> check("0-c", loss_per_token)        # doctest: +SKIP
0-c passed

``notebook_0``, ``notebook_2_1`` … hold the visible checks of each notebook's exercises, ``engine`` runs them,
``notebooks`` finds the exercises in notebooks, and ``editions`` makes the students' notebooks out of ours.
"""

from course_lib.coursework.engine import Wrong, check
from course_lib.coursework.notebooks import hint, progress

__all__ = ["Wrong", "check", "hint", "progress"]
