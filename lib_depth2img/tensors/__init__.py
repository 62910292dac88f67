"""The file formats behind ``lib_depth2img.tensor_file``: one module for each; none imports torch to read a header."""
