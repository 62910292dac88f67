"""Many pictures in a row, and the depth maps that go with them."""
