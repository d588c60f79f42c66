"""Files for a regulator, made from the log and the configuration: tables first, printable pages, then JSON.

A report is a pure function of a ``World``: the configuration, the register, the packs' lists, and the log as
one checkpoint has it. It is made again from the same world bit for bit. What it cannot know stands in the
file itself.
"""
