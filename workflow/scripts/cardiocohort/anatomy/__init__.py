"""What a heart is on a grid: labels, moments, attributes, label map files."""
