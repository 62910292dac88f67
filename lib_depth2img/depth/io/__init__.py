"""Files and bytes to depth maps and pictures, and back."""
