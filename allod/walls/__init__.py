"""What the operating system takes from a process of ours, and a watch on what it tries.

Below every room that starts a process or opens a socket. ``network`` takes networks away for good, ``hook``
refuses what Python code tries, ``namespace`` makes an empty network to try things in, ``tracer`` sees every
attempt of a whole process tree. Linux only; elsewhere each says that it could do nothing.
"""
