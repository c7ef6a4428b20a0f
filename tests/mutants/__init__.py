"""Named one-line defects, and the tests that must catch each."""
