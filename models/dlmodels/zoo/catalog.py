"""The networks of the zoo: what is known of each without importing a framework.

torchvision's and Gluon's publish their accuracy for pictures whose shorter side was resized (to 256, say) and whose middle was
cut out; dlserve resizes the whole picture to the size that remains, as DeepDetect does. Accuracy on wide pictures is therefore
not quite the published one.
"""

import difflib
from types import MappingProxyType

from dlmodels.errors import UnknownArchitectureError
from dlmodels.zoo.cards.gluon_networks import GLUON
from dlmodels.zoo.cards.own_networks import OWN
from dlmodels.zoo.cards.torchvision_networks import TORCHVISION
from dlmodels.zoo.network import Network

__all__ = ["CATALOG", "CLASSES", "Network", "find"]

CLASSES = 1000

CATALOG = MappingProxyType({network.name: network for network in (*TORCHVISION, *OWN, *GLUON)})
"""Name -> network, in the order in which they are listed: by source, family, then size."""


def find(name: str) -> Network:
    """The network of that name. Raises UnknownArchitectureError naming those that there are."""
    try:
        return CATALOG[name]
    except KeyError:
        close = difflib.get_close_matches(name, CATALOG, n=3)
        guess = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UnknownArchitectureError(f"the zoo has no network {name!r}.{guess} `dlmodels list` shows all") from None
