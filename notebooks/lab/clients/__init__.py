"""Sends requests and stamps the wire; knows nothing of how the app is watched."""
