"""What runs, checks or compares whole experiments."""
