"""What the user sees: gradio, and nothing of the host."""
