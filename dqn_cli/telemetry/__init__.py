"""What a run tells of itself: JSON lines, TensorBoard events and the display on the terminal."""
