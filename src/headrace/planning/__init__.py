"""What a run needs before it is started: memory, time and money, for devices that are not here."""
