"""The traces of requests: the model, and the ledger that enters stamps; measures nothing."""

from .ledger import Ledger as Ledger
from .model import Floor as Floor
from .model import Task as Task
from .model import Trace as Trace
from .model import Traces as Traces
from .waiting import until as until
