"""Random specifications, and the smallest that shows a fault: drawing, shrinking, keeping, writing down."""
