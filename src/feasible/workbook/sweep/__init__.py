"""Sweeps: a grid or a search over the settings of an experiment, by any number of workers.

``tables`` and ``configuration`` read the file, ``space`` says what each trial gets, ``trial`` trains it, ``study`` and
``worker`` share the trials through a database, ``results``, ``figures`` and ``page`` show what came of it.
"""
