"""Text and a picture to a picture without the WebUI: diffusers, with this library's depth."""
