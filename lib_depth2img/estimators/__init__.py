"""The bundled MiDaS runner: picture in, nearness out.

``presets.py`` says which networks there are, ``networks/`` holds them, ``preprocess.py`` brings a picture to a
network's input, ``loading.py`` finds and checks the weights, ``network.py`` runs a network, one's own or somebody
else's, ``stage.py`` is the module a checkpoint calls ``depth_model``, and ``estimator.py`` puts them together behind a
cache. Knows nothing of any user interface.
"""
