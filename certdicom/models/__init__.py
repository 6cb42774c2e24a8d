"""The networks, the bundles that hold them, and the check that a picture is what they were trained for."""
