"""From the network to the disk: associations, instances on their way in, and which of them are certified."""
