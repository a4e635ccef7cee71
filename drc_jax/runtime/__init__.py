"""What a program runs on and with: devices, processes, signals."""
