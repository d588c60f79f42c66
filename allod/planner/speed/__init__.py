"""How fast a model runs on machines nobody measured: a roofline, what points share, and honest intervals."""
