"""Small experiments behind the decision records, and small parts of ingressd measured alone.

The programs that can be measured as peers take `--http --https --admin --upstream PORT --cert --key --log FILE`, so
that the harness starts them all alike. Only those that measure a part of ingressd import it.
"""
