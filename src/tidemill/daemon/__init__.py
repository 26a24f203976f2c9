"""The daemon: turns events and clock ticks into runs; on the wall clock, or on a virtual one over history."""
