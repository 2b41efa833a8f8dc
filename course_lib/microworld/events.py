"""What happens in the stories: what is the case, what can happen next, and how likely it is.

A story is a chain of `Step`s ("give", who, what, whom). What has happened so far is a `State`: where everybody is, who
has what, who wants what. Each step is possible or likely because of those before it, often long before: one gives only
what one has, to somebody who is at the same place, most often to somebody who wants it. `State.after` says what a step
changes, `Plot.options` which steps a state allows and how likely each is. How they are told stands in `stories.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from course_lib.microworld.lexicon import Lexicon, lexicon

KINDS = (
    "be", "there", "have",
    "go", "meet", "take", "find", "give", "leave", "lose", "hide", "want", "feel", "thank",
)  # fmt: skip
INTRODUCTIONS = KINDS[:3]
NEW = "new"  # in a step: a person, a thing or a place that the story has not mentioned yet
SLOTS = (("who", "people"), ("what", "things"), ("where", "places"), ("whom", "people"))  # what may be new in a step

THINGS = ("thing", "toy", "accessory", "print")  # what can be carried
PLACES = ("school", "park", "store", "eatery", "building", "beach", "forest", "playground", "farm")
HIDING = ("park", "beach", "forest", "playground", "farm", "library", "museum", "church", "theatre", "hotel", "factory")


class Step(NamedTuple):
    """One event of a story: its kind and whom or what it is about, as lemmas; "" where it is about nothing such.

    Three kinds introduce: "be" (a person, where), "there" (a thing, where), "have" (who, a thing). Eleven happen:
    "go" (who, where), "meet" (who, whom), "take" (who, a thing that lies there), "find" (who, a thing lost or hidden
    there), "give" (who, what, whom), "leave" (forget a thing where one is), "lose", "hide", "want", "feel" (`what` is
    the feeling) and "thank" (who, whom).
    """

    kind: str
    who: str = ""
    what: str = ""
    where: str = ""
    whom: str = ""


NOTHING = Step("")  # the step before the first
EMPTY: Mapping[str, str] = {}


class State(NamedTuple):
    """What is the case after some steps. Nothing in it is ever changed: a step makes a new state."""

    people: Mapping[str, str] = EMPTY  # person -> the place where she is
    things: Mapping[str, str] = EMPTY  # thing -> the person who has it, or the place where it is
    places: tuple[str, ...] = ()  # that were mentioned, in order
    unseen: frozenset[str] = frozenset()  # things lost or hidden: they are not taken but found
    unused: frozenset[str] = frozenset()  # things that nobody has had yet: in a shop they are for sale
    wishes: frozenset[tuple[str, str]] = frozenset()  # (person, thing): wants it whenever she does not have it
    wants: tuple[tuple[str, str], ...] = ()  # the wishes that are not fulfilled, in order
    parted: frozenset[tuple[str, str]] = frozenset()  # (person, thing): gave it away or hid it, and will not have it
    missed: frozenset[tuple[str, str]] = frozenset()  # (person, thing): lost or forgot it here, and does not know
    feelings: Mapping[str, str] = EMPTY  # person -> "happy" or "sad" because of the last step
    grateful: Mapping[str, str] = EMPTY  # person -> who has just given her something
    fresh: frozenset[str] = frozenset()  # people and places that the last step introduced
    opening: bool = True  # nothing has happened yet, there were only introductions
    last: Step = NOTHING
    length: int = 0

    def where(self, thing: str) -> str:
        """The place where a thing is, with whoever has it."""
        holder = self.things[thing]
        return self.people.get(holder, holder)

    def after(self, step: Step) -> State:
        """The state after a step."""
        kind, who, what, where, whom = step
        people, things, places, unseen, unused = self.people, self.things, self.places, self.unseen, self.unused
        wishes, wants, parted, missed = self.wishes, self.wants, self.parted, self.missed
        feelings: Mapping[str, str] = EMPTY
        grateful = self.grateful if kind == "feel" else EMPTY
        fresh: frozenset[str] = frozenset()
        if kind in ("be", "go", "meet"):
            fresh = frozenset(
                [word for word in (who, whom, where) if word and word not in people and word not in places]
            )
        if where and where not in places:
            places = (*places, where)

        here = people.get(who, "")
        if kind in ("be", "go"):
            people = {**people, who: where}
            missed = frozenset([pair for pair in missed if pair[0] != who]) if missed else missed
        elif kind == "meet" and whom not in people:
            people = {**people, whom: here}
        elif kind == "there":
            things, unused = {**things, what: where}, unused | {what}
        elif kind == "have":
            things = {**things, what: who}
        elif kind in ("take", "find"):
            things, unseen, unused = {**things, what: who}, unseen - {what}, unused - {what}
            concerned = [person for person, thing in wants if thing == what]
            feelings = {person: "sad" for person in concerned if kind == "take" and people[person] == here}
            if who in concerned:
                feelings[who] = "happy"
        elif kind == "give":
            things, parted = {**things, what: whom}, parted | {(who, what)}
            grateful = {whom: who}
            if (whom, what) in wants:
                feelings = {whom: "happy"}
        elif kind in ("leave", "lose", "hide"):
            things = {**things, what: here}
            if kind != "leave":
                unseen = unseen | {what}
            if kind == "hide":
                parted = parted | {(who, what)}
            else:
                wishes, missed = wishes | {(who, what)}, missed | {(who, what)}
            if kind == "lose":
                feelings = {who: "sad"}
        elif kind == "want":
            wishes = wishes | {(who, what)}
        if kind in ("take", "find", "give", "leave", "lose", "hide", "want"):
            wants = tuple(sorted([(person, thing) for person, thing in wishes if things[thing] != person]))
        return State(
            people,
            things,
            places,
            unseen,
            unused,
            wishes,
            wants,
            parted,
            missed,
            feelings,
            grateful,
            fresh,
            self.opening and kind in INTRODUCTIONS,
            step,
            self.length + 1,
        )


class Plot:
    """What can happen in a story, and how likely it is.

    Args:
        words: the lexicon, by default that of the course.
        people, places, things: the largest numbers of each in one story.
        shortest, longest: the numbers of sentences of a story.
    """

    def __init__(
        self,
        words: Lexicon | None = None,
        people: int = 3,
        places: int = 3,
        things: int = 3,
        shortest: int = 5,
        longest: int = 12,
    ) -> None:
        self.words = words or lexicon()
        self.people, self.places, self.things = people, places, things
        self.shortest, self.longest = shortest, longest
        if people < 1 or places < 2 or things < 0 or not 1 <= shortest <= longest:
            raise ValueError(
                f"people={people}, places={places}, things={things}, shortest={shortest}, longest={longest}; "
                "expected people >= 1, places >= 2, things >= 0 and 1 <= shortest <= longest"
            )
        self.new = {
            "people": tuple(self.words.names),
            "things": tuple(self.words.members(THINGS)),
            "places": tuple(self.words.members(PLACES)),
        }
        for what, known in self.new.items():
            if len(known) < getattr(self, what):
                raise ValueError(f"{what}={getattr(self, what)}, but the lexicon has only {len(known)}")
        self.stores = frozenset(self.words.members(["store"]))
        self.hiding = frozenset(self.words.members(HIDING))
        self.leaving, self.losing = (
            frozenset(self.words.members(self.words.verbs[verb].place)) for verb in ("leave/thing", "lose")
        )

    # What can happen next ---------------------------------------------------------------------------------------

    def ending(self, state: State) -> float:
        """The probability that the story is over: sooner when all wishes are fulfilled, and said to be."""
        if state.length < self.shortest:
            return 0.0
        if state.length >= self.longest:
            return 1.0
        kind, early = state.last.kind, self.early(state)
        if state.wants or state.feelings or kind in INTRODUCTIONS or (early and kind in ("go", "meet")):
            return 0.02
        return 0.7 if kind in ("feel", "thank") else 0.3 if early else 0.5

    def early(self, state: State) -> bool:
        """Whether there is time for somebody or something new."""
        return 3 * state.length < 2 * self.longest

    def options(self, state: State) -> list[tuple[Step, float]]:
        """The steps that can come next and their probabilities, given that there is a next sentence.

        A step may hold `NEW` for a person, a thing or a place: any that the story has not mentioned, each equally
        likely.
        """
        weighted = list(self._weighted(state))
        total = sum(weight for _, weight in weighted)
        return [(step, weight / total) for step, weight in weighted]

    def _weighted(self, state: State) -> Iterator[tuple[Step, float]]:
        """The numbers are weights: only their ratios count."""
        people, things, last, wants = state.people, state.things, state.last, state.wants
        if not people:
            yield Step("be", NEW, where=NEW), 1.0
            return
        new_people, new_places = len(people) < self.people, len(state.places) < self.places
        early, occupied = self.early(state), people.values()

        # Introductions: most of them before anything happens, later of what somebody comes upon
        if early and new_people and new_places:
            yield Step("be", NEW, where=NEW), (12.0 if len(people) == 1 else 1.5) if state.opening else 0.5
        if early and len(things) < self.things:
            likely = (16.0, 4.0, 1.0)[min(len(things), 2)]
            for place in state.places:
                if state.opening or place in state.fresh:
                    yield Step("there", what=NEW, where=place), likely
            for person in people:
                if (state.opening or person in state.fresh) and person not in things.values():
                    yield Step("have", person, NEW), likely

        for who, here in people.items():
            # Who has just acted, or was acted on, is likely to act next.
            focus = 4.0 if who == last.who else 3.0 if who == last.whom else 1.0
            company = [person for person in people if person != who and people[person] == here]
            wanted = [what for person, what in wants if person == who] if wants else []

            if who in state.feelings:
                yield Step("feel", who, state.feelings[who]), 100.0
            if who in state.grateful:
                yield Step("thank", who, whom=state.grateful[who]), 60.0
            # One goes where something is that one wants, or to somebody who wants what one has.
            came = last.who == who and last.kind == "go"
            eager = focus * (0.02 if came else 20.0 if last.who == who and last.kind == "leave" else 1.0)
            sought = [state.where(what) for what in wanted] if wanted else []
            awaited = [people[person] for person, what in wants if things[what] == who] if wants else []
            for place in state.places:
                if place != here:
                    idle = 0.1 if wanted else 0.6 if place in occupied else 0.2
                    reason = 12.0 if place in sought else 8.0 if place in awaited else idle
                    yield Step("go", who, "", place), reason * eager
            if new_places:
                yield Step("go", who, "", NEW), (0.2 if wanted or not things else 0.8) * eager
            if came:
                for whom in company:
                    yield Step("meet", who, "", "", whom), 4.0 * focus
                if new_people:
                    yield Step("meet", who, whom=NEW), 0.7 * focus

            for what, holder in things.items():
                mine = (who, what) in state.wishes
                if holder == who:
                    for whom in company:
                        if not mine and (whom, what) not in state.parted:
                            yield Step("give", who, what, "", whom), (25.0 if (whom, what) in wants else 2.0) * focus
                    if last.who == who and last.kind in ("go", "meet"):
                        if here in self.leaving:
                            yield Step("leave", who, what, here), 8.0 * focus
                        if here in self.losing:
                            yield Step("lose", who, what, here), 10.0 * focus
                    suspicious = last.what == what if last.kind == "want" else last.who == who and last.kind == "go"
                    if here in self.hiding and suspicious and not mine:
                        yield Step("hide", who, what, here), 6.0 * focus
                    continue
                if (who, what) in state.parted or (who, what) in state.missed:
                    continue
                if holder == here:
                    if what in state.unseen:
                        yield Step("find", who, what, here), (25.0 if mine else 4.0) * focus
                    else:
                        yield Step("take", who, what), (25.0 if mine else 1.5) * focus
                if not mine and not wanted:
                    likely = 3.0 if early and not wants else 0.4
                    yield Step("want", who, what), (0.2 if (holder, what) in state.wishes else 1.0) * likely * focus

    def unmentioned(self, state: State, kind: str) -> list[str]:
        """The people, places or things that a story has not mentioned."""
        known = getattr(state, kind)
        return [word for word in self.new[kind] if word not in known]
