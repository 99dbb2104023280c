"""Incidents: what is known of each, what the law asks for, and until when.

An incident has no file of its own. It is what the records about it say, replayed (`ledger.py`):
those of the command line in `operator/evidence`, and the openings of the controller in
`controller/evidence`. So nothing can be lost between two stores, whoever is killed half-way has
recorded a step or has not, and nobody can write afterwards what was known at the time.

    case.py     states and transitions, and an incident out of its records. Pure
    duties.py   which duties an incident has, and when each runs out. Pure
    verbs.py    the record for something that is to be said of an incident, or why not. Pure
    draft.py    the report to an authority, with blanks for what a person has to say. Pure
    notice.py   what the people concerned are told, with blanks likewise. Pure
    ledger.py   reads the logs
    opening.py  opens one for what the controller sees

Rules that hold everywhere:
  * What was said stays: awareness that is moved, a duty that does not arise after all, a closing
    that was wrong are further records, and both are shown.
  * No text is recorded: codes of the policy, numbers, times, digests and file numbers. Roles answer
    for things, never people.
  * Not knowing lets a clock run. Whoever has not said which role we were in has every duty.

Sources: GDPR Art. 33 and 34, in force since 25 May 2018; Directive (EU) 2022/2555 Art. 23;
Regulation (EU) 2024/1689 Art. 26(5) and 73; what applies from when is facts/law.yaml.
Self-assessment, not legal advice.
"""
