"""The kinds of calls this gateway answers. One that is not in `KINDS` does not exist."""

from sovereign.gateway.kinds.chat import CHAT
from sovereign.gateway.kinds.completions import COMPLETION
from sovereign.gateway.kinds.embeddings import EMBEDDING
from sovereign.gateway.kinds.fim import FIM
from sovereign.gateway.kinds.kind import Kind

KINDS: tuple[Kind, ...] = (CHAT, FIM, COMPLETION, EMBEDDING)
