"""The measurements. Each adds its values to the figures, without judging them."""
