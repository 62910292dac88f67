"""Weights files: by name and hash, downloaded, read and written tensor by tensor. No pickle is executed.

Reading a header imports no torch.
"""
