"""What all measurements share: processes seen from outside, scratch space, arithmetic, reports."""
