"""How much a key, a tenant or a model may use, and who is next at a busy engine. Pure.

  gcra      what comes back evenly: requests and tokens a minute
  windows   what ends with the calendar: a day, a month, in UTC
  money     euros as whole numbers, and what tokens cost on a day
  rules     which limits cover a call, and in whose name
  accounts  what one holder has left of one limit
  ledger    all accounts of a gateway: take, settle, tell
  tally     what was used, by day, tenant, key and model: what budgets and bills are made of
  fair      the line in front of an engine: start-time fair queueing

Nothing here opens a file or a socket or reads a clock: times come in.
"""
