"""Signed bundles: what enters a site without a network, and the only way it enters.

``form`` is ``bundle.json``, ``names`` what a path may be, ``envelope`` the signatures over it, ``layout`` the
OCI image layout inside; ``tree`` and ``tar`` read the folder or the stream, ``metadata`` is TUF, ``logproof``
the log's word; ``verify`` opens a bundle, ``content``, ``publish`` and ``create`` make one.
"""
