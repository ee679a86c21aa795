"""What is measured: a noun a module. Each adds to the figures, and judges nothing."""
