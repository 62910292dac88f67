"""The model pair: which files it is, how to install them, how to recognise, convert and make depth checkpoints.

``pair.py`` brings it in; ``inspect.py`` tells from a header what a file is and gives it its yaml; ``convert.py`` and
``transplant.py`` write new ones, tensor by tensor. Knows no user interface.
"""
