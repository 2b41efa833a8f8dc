"""How a meaning is said in English, one method per kind of node."""

from __future__ import annotations

from typing import Any

from course_lib.microworld.lexicon import plural, printed
from course_lib.microworld.meanings import (
    Asked,
    Because,
    Both,
    Comparison,
    Event,
    Existence,
    Identity,
    Location,
    Name,
    Place,
    Pronoun,
    Quality,
    Relative,
    Report,
    Sentence,
    Thing,
    Time,
    Word,
    unusual,
)
from course_lib.microworld.realise import Link, Realiser, Token, tokens

PRONOUNS = {  # subject: (object, owner)
    "I": ("me", "my"),
    "you": ("you", "your"),
    "he": ("him", "his"),
    "she": ("her", "her"),
    "we": ("us", "our"),
    "they": ("them", "their"),
}
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
FORMS = {"past": "past", "past state": "past", "experience": "participle", "progressive": "ing"}  # of the verb


class English(Realiser):
    """Says meanings in English."""

    def write(self, words: tuple[str, ...]) -> str:
        """The sentence as a person would write it."""
        text = " ".join(words)
        for mark in (" .", " ?", " ,", " '"):
            text = text.replace(mark, mark[1:])
        return text[0].upper() + text[1:]

    def sentence(self, node: Sentence) -> list[Token]:
        """The clause and its final mark."""
        mood = "statement" if node.mood == "statement" else "question"
        return self.say(node.clause, mood) + tokens("." if mood == "statement" else "?", (id(node), "end"))

    # Noun phrases

    def name(self, node: Name, case: str = "subject") -> list[Token]:
        """Anna."""
        return tokens(node.name.lemma, (id(node.name), ""))

    def pronoun(self, node: Pronoun, case: str = "subject") -> list[Token]:
        """I or me."""
        return tokens(node.pronoun if case == "subject" else PRONOUNS[node.pronoun][0], (id(node), ""))

    def asked(self, node: Asked, case: str = "subject") -> list[Token]:
        """Who, what."""
        return tokens(node.question, (id(node), ""))

    def both(self, node: Both, case: str = "subject") -> list[Token]:
        """An apple and two cakes."""
        return self.say(node.first, case) + tokens("and", (id(node), "and")) + self.say(node.second, case)

    def thing(self, node: Thing, case: str = "subject") -> list[Token]:
        """Determiner, number, unit, adjective, noun, relative clause: two cups of hot tea."""
        entry, link = self.words.nouns[node.noun.lemma], (id(node), "determiner")
        count = tokens(NUMBERS[node.count], (id(node), "count")) if node.count else []
        unit: list[Token] = []
        if entry.unit and (node.determiner == "a" or node.count):
            unit = tokens((plural(entry.unit) if node.count else entry.unit, "of"), (id(node), "unit"))
        head = unit + self.word(node.adjective) + self.noun(node.noun, node.plural)
        if node.owner:
            before = self.owner(node.owner, (id(node), "owner"))
        elif node.determiner == "a":
            before = tokens("an" if head[0][0][0] in "aeiou" and head[0][0][:3] not in ("uni", "use") else "a", link)
        elif node.determiner in ("this", "that") and node.plural:
            before = tokens({"this": "these", "that": "those"}[node.determiner], link)
        else:
            before = tokens(node.determiner, link)
        after = self.relative(node.relative, node) if node.relative else []
        return before + count + head + after

    def owner(self, node: Any, link: Link) -> list[Token]:
        """My, Anna's, my teachers'."""
        if isinstance(node, Pronoun):
            return tokens(PRONOUNS[node.pronoun][1], (id(node), ""), link)
        return self.say(node) + tokens("'" if isinstance(node, Thing) and node.plural else "'s", link)

    def noun(self, word: Word, many: bool) -> list[Token]:
        """Shoe or shoes; only the last word of a compound changes."""
        entry = self.words.nouns[word.lemma]
        *first, last = entry.english.split()
        return tokens((*first, *entry.plural.split()[-1:]) if many else (*first, last), (id(word), ""))

    def word(self, word: Word | None) -> list[Token]:
        """An adjective or adverb as it stands in the lexicon."""
        return tokens(printed(word.lemma), (id(word), "")) if word else []

    def relative(self, node: Relative, head: Thing) -> list[Token]:
        """Who likes dogs; that Anna bought."""
        link = (id(node), "relative")
        if node.gap == "subject":
            return tokens("who", link) + self.event(node.clause, "relative", head)
        return tokens("that", link) + self.event(node.clause, "statement")

    def place(self, node: Place, case: str = "") -> list[Token]:
        """In the park; as an object (visit the museum) without the preposition."""
        entry = self.words.nouns[node.noun.lemma]
        preposition = tokens(node.relation or entry.preposition, (id(node), "relation")) if case != "object" else []
        return preposition + tokens("the", (id(node), "determiner")) + self.noun(node.noun, False)

    def time(self, node: Time) -> list[Token]:
        """Yesterday."""
        return self.word(node.when)

    def agreement(self, node: Any) -> str:
        """The verb form that a subject takes: that of "I", "he" or "they"."""
        if isinstance(node, Pronoun):
            return {"I": "I", "he": "he", "she": "he"}.get(node.pronoun, "they")
        if isinstance(node, Both):
            return "they"
        if isinstance(node, Thing):
            pair = self.words.nouns[node.noun.lemma].unit and node.determiner == "a"
            return "they" if (node.plural and not pair) or node.count else "he"
        return "he"

    def be(self, subject: Any, past: bool = False) -> str:
        """Am, is, are, was, were."""
        forms = {"I": ("am", "was"), "he": ("is", "was"), "they": ("are", "were")}
        return forms[self.agreement(subject)][past]

    # Clauses: `mood` is "statement", "question" or "relative" (the subject is the noun before)

    def event(self, node: Event, mood: str, subject: Any = None) -> list[Token]:
        """[When] [auxiliary] subject [auxiliary] [not] verb, objects, how, where, when."""
        subject = node.subject or subject
        verb, singular = self.words.verbs[node.verb.lemma], self.agreement(subject) == "he"
        tense, no, act = (id(node), "tense"), (id(node), "not"), (id(node.verb), "")
        asked = next((part for part in (node.object, node.place, node.time) if isinstance(part, Asked)), None)
        inverted = mood == "question" and not isinstance(subject, Asked)

        auxiliary, form = "", FORMS.get(node.tense, "base")
        modal = self.words.verbs[node.modal.lemma] if node.modal else None
        if node.tense == "experience":
            auxiliary = "has" if singular else "have"
        elif node.tense == "progressive":
            auxiliary = self.be(subject)
        elif node.tense == "future":
            auxiliary = "will"
        elif modal and not modal.rest:  # can, should, must
            auxiliary = modal.lemma
        elif node.negative or inverted:
            auxiliary, form = "did" if form == "past" else "does" if singular else "do", "base"
        elif node.tense in ("habit", "present") and singular:
            form = "present"

        links = [tense, (id(node.modal), "")] if node.modal else [tense]
        helper = tokens(auxiliary, *links)
        if node.negative:
            adverb = tokens("never" if node.tense == "experience" else "not", no)
        elif node.tense == "experience" and mood == "question":
            adverb = tokens("ever", tense)
        else:
            adverb = self.word(node.frequency)
        if modal and modal.rest:  # want to, plan to
            first = modal.forms["present" if singular and not auxiliary else "base"]
            adverb = adverb + tokens((first, *modal.rest), (id(node.modal), ""))
        action = tokens(verb.forms[form], *([act] if auxiliary else [act, tense])) + tokens(verb.rest, act)

        known = [] if mood == "relative" else self.say(subject)
        early = tokens(asked.question, (id(asked), "")) if asked else []
        late: list[Token] = []
        if isinstance(node.time, Time):
            if unusual(node.time.front_en):
                early = self.time(node.time)
            else:
                late = self.time(node.time)
        told = node.tense == "experience" and mood != "question" and not node.negative
        before = tokens("before", tense) if told else []
        where = self.place(node.place) if isinstance(node.place, Place) else []
        start = early + (helper + known if inverted else known + helper)
        return start + adverb + action + self.complements(node) + self.word(node.manner) + where + before + late

    def complements(self, node: Event) -> list[Token]:
        """What follows the verb: a book to Tom; the cup on the table; the book away."""
        verb = self.words.verbs[node.verb.lemma]
        done = self.say(node.object, "object") if node.object and not isinstance(node.object, Asked) else []
        done = done + tokens(verb.particle, (id(node.verb), ""))
        if node.recipient:
            to = self.say(node.recipient, "object")
            if unusual(node.dative):
                return done + tokens("to", (id(node), "to")) + to
            return to + done
        return done + (self.place(node.goal) if node.goal else [])

    def quality(self, node: Quality, mood: str, subject: Any = None) -> list[Token]:
        """The soup is very hot."""
        subject = node.subject or subject
        be = tokens(self.be(subject, node.past), (id(node), "be"))
        about = tokens("not", (id(node), "not")) if node.negative else tokens(node.degree, (id(node), "degree"))
        when = self.time(node.time) if node.time else []
        front = when if node.time and unusual(node.time.front_en) else []
        known = be + self.say(subject) if mood == "question" else self.say(subject) + be
        return front + known + about + self.word(node.adjective) + ([] if front else when)

    def comparison(self, node: Comparison, mood: str) -> list[Token]:
        """Anna is taller than Tom; is not as tall as Tom."""
        start = self.say(node.subject) + tokens(self.be(node.subject), (id(node), "be"))
        adjective, act = self.words.adjectives[node.adjective.lemma], (id(node.adjective), "")
        than = self.say(node.than, "object")
        if node.degree == "less":
            link = (id(node), "than")
            return start + tokens("not as", link) + tokens(adjective.english, act) + tokens("as", link) + than
        degree = tokens("much", (id(node), "degree")) if node.degree == "much" else []
        return start + degree + tokens(adjective.comparative, act) + tokens("than", (id(node), "than")) + than

    def location(self, node: Location, mood: str) -> list[Token]:
        """My key is under the table."""
        be = tokens(self.be(node.subject, node.past), (id(node), "be"))
        no = tokens("not", (id(node), "not")) if node.negative else []
        subject, place = self.say(node.subject), self.say(node.place)
        if isinstance(node.place, Asked):
            return place + be + subject
        return (be + subject if mood == "question" else subject + be) + no + place

    def existence(self, node: Existence, mood: str) -> list[Token]:
        """There is a cat in the garden."""
        there, be = tokens("there", (id(node), "be")), tokens(self.be(node.thing, node.past), (id(node), "be"))
        no = tokens("no", (id(node), "not")) if node.negative else []
        return (be + there if mood == "question" else there + be) + no + self.say(node.thing) + self.place(node.place)

    def identity(self, node: Identity, mood: str) -> list[Token]:
        """Anna is a doctor."""
        subject, be = self.say(node.subject), tokens(self.be(node.subject), (id(node), "be"))
        no = tokens("not", (id(node), "not")) if node.negative else []
        return (be + subject if mood == "question" else subject + be) + no + self.say(node.role)

    def report(self, node: Report, mood: str) -> list[Token]:
        """Anna says that Tom is tired."""
        verb, singular = self.words.verbs[node.verb.lemma], self.agreement(node.subject) == "he"
        no = tokens("does not" if singular else "do not", (id(node), "not")) if node.negative else []
        said = tokens(verb.forms["present" if singular and not no else "base"], (id(node.verb), ""))
        that = tokens("that", (id(node), "that"))
        return self.say(node.subject) + no + said + that + self.say(node.clause, "statement")

    def because(self, node: Because, mood: str) -> list[Token]:
        """The second clause has a pronoun for the subject."""
        again = tokens(self.pronoun_for(node.subject), (id(node), "again"))
        whole = self.say(node.subject)
        effect = self.event(node.effect, "statement", node.subject)[len(whole) :]
        cause = self.quality(node.cause, "statement", node.subject)[len(whole) :]
        why = tokens("because", (id(node), "because"))
        if unusual(node.order):
            return why + whole + cause + tokens(",", (id(node), "comma")) + again + effect
        return whole + effect + why + again + cause
