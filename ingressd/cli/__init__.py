"""The command line. In: arguments and variables. Out: an exit code. May import everything; each command's own imports
are late, so that none waits for what another needs.
"""
