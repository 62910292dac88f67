"""How the small depth-to-image checkpoint was made: data, stages, measurements. Nothing outside imports it."""
