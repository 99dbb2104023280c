"""The kinds of calls this gateway answers. One that is not in `KINDS` does not exist."""

from sovereign.gateway.chat import CHAT
from sovereign.gateway.completions import COMPLETION
from sovereign.gateway.embeddings import EMBEDDING
from sovereign.gateway.fim import FIM
from sovereign.gateway.kind import Kind

KINDS: tuple[Kind, ...] = (CHAT, FIM, COMPLETION, EMBEDDING)
