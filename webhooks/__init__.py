"""The service behind the endpoints of `server.py`: settings, work, queue, worker, effects.

It can go to production as it is: it imports nothing of the lab, which watches it from outside.
"""
