"""A hands-on course on Transformers: what its notebooks build, finished.

Import from the module that holds a name: ``from course_lib.models import Seq2Seq``.
"""

__version__ = "0.1.0"
