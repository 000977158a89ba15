"""What is known of requests: the model, and where stamps are entered into it; measures nothing."""

from .ledger import Ledger as Ledger
from .model import Floor as Floor
from .model import Task as Task
from .model import Trace as Trace
from .model import Traces as Traces
from .waiting import until as until
