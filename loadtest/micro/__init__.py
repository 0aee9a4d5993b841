"""Small experiments behind the decision records: programs that can be measured as peers.

The programs import nothing of ingressd or loadtest. Each takes `--http --https --admin --upstream PORT --cert
--key --log FILE`, so that the harness starts them all alike.
"""
