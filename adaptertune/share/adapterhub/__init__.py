"""Adapters in the format of AdapterHub's library (``adapters`` 1.3.0): its folders as runs, runs as its
folders.

A folder of theirs holds a configuration and weights of the adapters, and the same of a prediction head.
Those configurations are taken that compute what a method of ours computes, key by key; any other is
refused by the key's name. Such a folder is foreign: of its files only four are read, weights with
``weights_only``, and all are checked before anything is written; where the run goes follows from
checked content.
"""
