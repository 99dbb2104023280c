"""Ids of tool calls: nine letters and digits, the same for the same name, never one for two."""

from hypothesis import given
from hypothesis import strategies as st

from sovereign.engines import callids
from sovereign.engines.callids import CHARS, CallIds, is_short

shorts = st.text("0123456789abcdefABCDEFxyzXYZ", min_size=CHARS, max_size=CHARS)
names = shorts | st.text(max_size=40)


@given(st.lists(names, unique=True, max_size=20))
def test_every_name_has_an_id_of_its_own_that_mistrals_tokenizers_accept(given_: list[str]) -> None:
    """Two calls under one id: the model would take one's result for the other's."""
    ids = CallIds(given_)
    found = [ids.of(name) for name in given_]
    assert all(is_short(one) for one in found)
    assert len(set(found)) == len(given_)


@given(st.lists(names, unique=True, max_size=20))
def test_an_id_that_has_the_form_is_never_changed(given_: list[str]) -> None:
    """A client of Mistral's sends back what it was sent, and must find it again."""
    ids = CallIds(given_)
    assert all(ids.of(name) == name for name in given_ if is_short(name))


@given(names)
def test_a_name_means_the_same_id_in_every_conversation(name: str) -> None:
    """The answer was put into words in one request, and comes back in the next."""
    assert CallIds().of(name) == CallIds([name]).of(name) == CallIds().of(CallIds().of(name))


def test_the_id_of_a_known_name_stays_what_it_is() -> None:
    """Conversations that applications have stored must go on after an update of ours."""
    assert CallIds().of("chatcmpl-tool-0123456789abcdef0123456789abcdef") == "kV44oyHf5"
    assert CallIds().of("call_abc") == "Q3sXjOISD"


def test_a_name_whose_id_is_given_already_gets_the_next() -> None:
    """Whoever sends a name and the id made of another in one request meant two calls."""
    taken = CallIds().of("call_1")
    ids = CallIds(["call_1", taken])
    assert ids.of(taken) == taken
    assert ids.of("call_1") not in (taken, "")
    assert ids.of("call_1") == CallIds([taken]).of("call_1")


def test_nine_characters_are_only_short_when_all_are_letters_or_digits() -> None:
    """The edges of the form, beside letters that only look like some."""
    assert is_short("D681PevKs")
    for name in ("D681PevK", "D681PevKsx", "D681-evKs", "D681PevK\u0455", "", "D681PevK\n"):
        assert not is_short(name)
    assert callids.CHARS == 9
