"""Strategy notebooks, run without a person in front of them.

``notebook`` reads cells by tag, ``parameters`` checks what is given to them, ``engine`` executes them with papermill in
a kernel of their own (``kernel``), ``redaction`` keeps secrets out of what is kept, ``provenance`` says what ran, and
``report`` turns the executed notebook into one HTML file. Nothing heavy is imported before it is used.

A run at the desk is ``live`` (the process that has it), ``launcher`` (the process that is it) and ``long_run`` (its cells).
``worker`` runs the schedule: ``triggers`` and ``schedule`` say when, ``supervise`` starts again what fails, ``guard`` lets one run at
a time. It never loads a notebook itself: ``describe`` asks a process of its own.
"""
