"""The tests, in folders like the package's; and the checker of annotations that `conftest.py` hooks in."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as it is to Python
