"""Closing without loss: what has to be looked at before a connection is ended by us.

May import: nothing of ours.
"""
