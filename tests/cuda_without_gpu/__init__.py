"""Every preset on a GPU that is not there: devices must agree, and what would make the host wait is counted."""
