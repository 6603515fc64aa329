"""The limit on open files, and with them on connections."""

import resource

_MAX_FILES = 65_536


def raise_file_limit() -> int:
    """Raise the soft limit of this process to the hard one, or to 65,536. Return the limit that holds now.

    The usual soft limit is about a thousand.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return _MAX_FILES if soft == resource.RLIM_INFINITY else soft
