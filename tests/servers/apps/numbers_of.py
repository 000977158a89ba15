import os


def crunch():
    return os.getpid()
