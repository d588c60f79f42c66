"""Drills: take something away and decide again what was asked, by the functions that decide.

``worlds``: what is gone, as TOML. ``losses``: what that means for a fleet. ``traffic``: recorded decisions,
gathered by what a loss can do to them. ``run``: one world over that traffic; ``everything``: all losses, and
pairs of them; ``restore``: what brings the work back, decided again; ``scenarios`` and ``expected``: how
likely, and what it would cost over a year; ``concentration``: on whom the work rests. What needs the packs or
a home is handed in by ``allod.gateway.drilling``.
"""
