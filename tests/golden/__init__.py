"""Golden runs: their numbers, and the program that makes them."""
