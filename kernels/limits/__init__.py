"""Native loops that show what a CPU can do at most: multiply-adds in registers, and reads of memory."""
