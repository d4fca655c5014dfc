"""Time what is verified: the clock, the roof of the device, the facts of the machine that bear on a figure."""
