"""Text and a picture to a picture without the WebUI: Stability's `ldm`, with this library's depth."""
