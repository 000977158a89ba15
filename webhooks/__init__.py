"""What stands behind the endpoints of `server.py`: settings, work, queue, worker, effects.

Take it to production as it is: it knows nothing of the lab, which watches it from outside.
"""
