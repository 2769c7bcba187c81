#!/usr/bin/env python3
"""Write the embedded sample data set: small, made-up stand-ins for the nine GLUE tasks.

Every sentence comes from the word lists and sentence patterns in ``sample_grammar.toml``, next to this
script; nothing is taken from GLUE. The files have the layout of the official distribution
(columns, header lines, the byte-order mark in MRPC, no labels in the test files), so one reader
serves both.

    python scripts/make_sample.py           # write adaptertune/data/sample/*/*.tsv
    python scripts/make_sample.py --check   # exit 1 if the files there differ from what we write

How it works: each task has one function ``make_<task>(rng, label, split)`` that draws one example
carrying the wanted label; its docstring says what makes that label true. ``draw`` calls it until a
split is full, with fixed shares of the labels and without repeats. Wherever possible one side of a
pair is drawn before the label is looked at, so that this side alone does not give the label away.
Each task and split has its own generator, seeded by name: the output is the same everywhere, and
a change to one task leaves the others as they are.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

SEED = "adaptertune-sample-1"
SAMPLE_DIR = Path(__file__).resolve().parent.parent / "adaptertune" / "data" / "sample"
ROWS = {"train": 800, "dev": 200, "test": 200}
DIAGNOSTIC_ROWS = 100
GRAMMAR_FILE = Path(__file__).with_name("sample_grammar.toml")
GRAMMAR: dict[str, Any] = tomllib.loads(GRAMMAR_FILE.read_text("utf-8"))

Rng = random.Random
T = TypeVar("T")


class Example(NamedTuple):
    """One row before it is laid out: one or two texts, the label, where the text "comes from"."""

    texts: tuple[str, ...]
    label: str
    source: str = ""


Maker = Callable[[Rng, str, str], Example]


# ---- Small helpers: lists, choices, sentences -----------------------------------------------


def items(text: str) -> list[str]:
    """Split ``"a | b | c"`` into its parts."""
    return [part.strip() for part in text.split("|")]


def chance(rng: Rng, share: float) -> bool:
    """Return True with the given probability."""
    return rng.random() < share


def other(rng: Rng, choices: Sequence[T], *avoid: T) -> T:
    """Choose an element that is none of ``avoid``."""
    return rng.choice([choice for choice in choices if choice not in avoid])


def known(words: Sequence[str], split: str) -> list[str]:
    """Hold the last third of a word list out of the training split."""
    return list(words[: len(words) * 2 // 3] if split == "train" else words)


def sentence(*parts: str) -> str:
    """Join the non-empty parts, start with a capital and close with a full stop."""
    text = " ".join(part for part in parts if part).replace(" ,", ",")
    return text[0].upper() + text[1:] + "."


def spaced(text: str) -> str:
    """Set punctuation apart by blanks, as the news sentences of MRPC have it."""
    return " ".join(re.sub(r"([.,;:?!\"])", r" \1 ", text).split())


def a(noun: str) -> str:
    """Put the indefinite article before a noun phrase."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


# ---- Inflection -----------------------------------------------------------------------------

FORMS = GRAMMAR["forms"]
IRREGULAR_VERBS = {verb: forms for verb, *forms in map(str.split, items(FORMS["verbs"]))}
IRREGULAR_PLURALS = dict(map(str.split, items(FORMS["plurals"])))
DOUBLING = items(FORMS["doubling"])


def _suffix(word: str, ending: str) -> str:
    """Add -ed, -er, -est or -ing to a regular word."""
    if word in DOUBLING:
        return word + word[-1] + ending
    if word.endswith("y") and word[-2] not in "aeiou" and ending[0] == "e":
        return word[:-1] + "i" + ending
    if word.endswith("e") and (ending[0] == "e" or not word.endswith("ee")):
        return word[:-1] + ending
    return word + ending


def _inflect(verb: str, form: Callable[[str], str]) -> str:
    """Inflect the first word of a verb and keep its particle: take over -> took over."""
    head, _, rest = verb.partition(" ")
    return f"{form(head)} {rest}".strip()


def past(verb: str) -> str:
    return _inflect(verb, lambda v: IRREGULAR_VERBS.get(v, [_suffix(v, "ed")])[0])


def done(verb: str) -> str:
    return _inflect(verb, lambda v: IRREGULAR_VERBS.get(v, [_suffix(v, "ed")])[-1])


def doing(verb: str) -> str:
    return _inflect(verb, lambda v: _suffix(v, "ing"))


def with_s(word: str) -> str:
    """Third person of a regular verb, plural of a regular noun."""
    if word.endswith(("s", "sh", "ch", "x", "z")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def plural(noun: str) -> str:
    """Plural of a noun phrase whose head is its last word."""
    front, blank, head = noun.rpartition(" ")
    return front + blank + IRREGULAR_PLURALS.get(head, with_s(head))


# ---- Names, places, times -------------------------------------------------------------------

WOMEN, MEN, SURNAMES, TOWNS, WEEKDAYS, MONTHS, NUMBERS = (
    items(GRAMMAR["names"][kind])
    for kind in ("women", "men", "surnames", "towns", "weekdays", "months", "numbers")
)


def person_name(rng: Rng) -> str:
    return f"{rng.choice(WOMEN + MEN)} {rng.choice(SURNAMES)}"


def a_day(rng: Rng) -> str:
    return rng.choice([f"on {rng.choice(WEEKDAYS)}", f"in {rng.choice(MONTHS)}"])


# ---- CoLA: is the sentence grammatical? -----------------------------------------------------

COLA = GRAMMAR["cola"]


def make_cola(rng: Rng, label: str, _split: str) -> Example:
    """Grammatical (1): a well-formed pattern. Not (0): one of that pattern's broken versions.

    Both draw from the same words, so a broken sentence mostly has no word of its own.
    """
    source, good, *broken = rng.choice(COLA["patterns"])
    verb, other_verb = rng.sample(sorted(COLA["verbs"]), 2)
    thing, second = (rng.choice(items(COLA["verbs"][v])) for v in (verb, other_verb))
    one, two = rng.sample(items(COLA["people"]), 2)
    adj, idle = (rng.choice(items(COLA[key])) for key in ("adjectives", "idle"))
    words = {
        "p": one, "ps": plural(one), "q": two, "qs": plural(two),
        "t": thing, "ts": plural(thing), "a_t": a(thing), "u": second,
        "do": verb, "does": _inflect(verb, with_s), "past": past(verb), "done": done(verb),
        "doing": doing(verb), "sleep": idle, "sleeps": with_s(idle), "went": past(idle),
        "adj": adj, "a_adj": a(adj), "adjer": _suffix(adj, "er"), "n": rng.choice(NUMBERS[2:]),
        "she": rng.choice(WOMEN), "he": rng.choice(MEN), "town": rng.choice(TOWNS),
        "place": rng.choice(items(COLA["places"])), "spot": rng.choice(items(COLA["spots"])),
        "when": rng.choice(items(COLA["times"])), "every": rng.choice(items(COLA["habits"])),
    }  # fmt: skip
    text = good.format(**words)
    if label == "0":
        text = other(rng, [pattern.format(**words) for pattern in broken] + [text], text)
    text = text[0].upper() + text[1:]
    if text.endswith(".") and chance(rng, 0.25):  # a longer sentence around it, always in order
        inner = text[:-1] if text.split()[0] in WOMEN + MEN else text[0].lower() + text[1:-1]
        text = sentence(rng.choice(items(COLA["around"])).format(inner))
    return Example((text,), label, source)


# ---- SST-2: does the review like what it is about? ------------------------------------------

SST2 = GRAMMAR["sst2"]
WORDS = {True: SST2["praise"], False: SST2["blame"]}


def opinion(rng: Rng, aspect: str, good: bool, split: str) -> str:
    """One clause that praises or finds fault; half of them say so through a negation."""
    adjectives, qualities, verdicts = (
        known(items(WORDS[good][key]), split) for key in ("adjectives", "qualities", "verdicts")
    )
    blames, defects = (
        known(items(WORDS[not good][key]), split) for key in ("adjectives", "qualities")
    )
    adjective, blame, defect = (rng.choice(words) for words in (adjectives, blames, defects))
    if not adjective.startswith("a ") and chance(rng, 0.5):
        adjective = f"{rng.choice(items(SST2['very']))} {adjective}"
    pattern = rng.choice(
        [f"the {aspect} is {adjective}", f"the {aspect} is {adjective}",
         f"the {aspect} has plenty of {rng.choice(qualities)}", rng.choice(verdicts),
         f"the {aspect} is anything but {blame}",
         f"the {aspect} is never {blame}",
         f"nobody could call the {aspect} {blame}",
         f"the {aspect} is free of {defect}",
         f"there is hardly any {defect} in the {aspect}"]
    )  # fmt: skip
    return pattern.replace("hardly any clichés", "hardly a cliché")


def make_sst2(rng: Rng, label: str, split: str) -> Example:
    """Positive (1) or negative (0): the polarity of the clause that carries the weight.

    With a contrast ("although A , B", "A , but B") the writer sides with B, and A says the
    opposite. Some words of opinion are kept for the validation and test splits.
    """
    good = label == "1"
    kind = rng.choice(sorted(SST2["reviewed"]))
    one, two = rng.sample(items(SST2["reviewed"][kind]), 2)
    main, against = opinion(rng, one, good, split), opinion(rng, two, not good, split)
    adjective, opposite = (
        rng.choice([word for word in known(items(words["adjectives"]), split) if word[:2] != "a "])
        for words in (WORDS[good], WORDS[not good])
    )
    subject = f"{rng.choice(['first', 'second', 'third', 'latest', 'long-awaited'])} {kind}"
    where = rng.choice([f"from {person_name(rng)}", f"made in {rng.choice(TOWNS)}",
                        "of the season"])  # fmt: skip
    shape = rng.choice(["plain", "plain", "about", "both", "fragment"] + 3 * ["contrast"])
    if shape == "plain":
        text = main
    elif shape == "about":
        text = f"as for the {subject} {where} , {main}"
    elif shape == "both":
        text = f"{main} , and {opinion(rng, two, good, split)}"
    elif shape == "fragment":
        text = rng.choice(
            [f"{a(adjective)} {kind} {where}", f"{a(adjective)} , never {opposite} {kind}",
             f"{a(kind)} {where} that is more {adjective} than {opposite}"]
        )  # fmt: skip
    else:
        text = rng.choice(
            [f"although {against} , {main}", f"{against} , but {main}",
             f"{main} , even if {against}", f"you may hear that {against} , yet {main}",
             f"the {subject} {where} has its fans and its critics ; {against} , but {main}",
             f"it is true that {against} ; still , {main}"]
        )  # fmt: skip
    return Example((text.lower() + rng.choice(["", "", " ."]),), label)


# ---- News events, shared by MRPC, STS-B and RTE ---------------------------------------------


@dataclass(frozen=True)
class Frame:
    """A kind of event: who does it, verbs for it and for the opposite, things in two wordings."""

    agents: str
    does: list[str]
    undoes: list[str]
    things: list[list[str]]


NEWS = GRAMMAR["news"]
AGENTS = {kind: items(names) for kind, names in NEWS["agents"].items()}
FRAMES = [
    Frame(
        agents=entry["agents"],
        does=items(entry["does"]),
        undoes=items(entry["undoes"]),
        things=[thing.split(" / ") for thing in items(entry["things"])],
    )
    for entry in NEWS["frames"]
]


@dataclass(frozen=True)
class Event:
    """Who did what to which thing, where and when, and one detail with a number."""

    frame: Frame
    agent: str
    positive: bool
    thing: list[str]
    place: str
    day: str
    detail: list[str]
    number: int

    @property
    def verbs(self) -> list[str]:
        """The verbs for what was done."""
        return self.frame.does if self.positive else self.frame.undoes

    def changed(self, rng: Rng, slot: str) -> Event:
        """Return the event with one fact made different."""
        if slot == "agent":
            return replace(self, agent=other(rng, AGENTS[self.frame.agents], self.agent))
        if slot == "action":
            return replace(self, positive=not self.positive)
        if slot == "thing":
            return replace(self, thing=other(rng, self.frame.things, self.thing))
        if slot == "place":
            return replace(self, place=other(rng, TOWNS, self.place))
        if slot == "day":
            return replace(self, day=other(rng, [a_day(rng) for _ in range(9)], self.day))
        return replace(self, number=other(rng, range(2, 60), self.number))

    def told(self, rng: Rng, show: Iterable[str], passive: float = 0.4) -> str:
        """Put the event into words: any of its verbs and wordings, active or passive.

        Of place, day and detail only those in ``show`` are mentioned.
        """
        verb, thing = rng.choice(self.verbs), rng.choice(self.thing)
        if chance(rng, passive):
            core = f"{thing_was(thing)} {done(verb)} by {self.agent}"
        else:
            core = f"{self.agent} {past(verb)} {thing}"
        if "place" in show:
            core += f" in {self.place}"
        if "detail" in show:
            number = NUMBERS[self.number] if self.number <= 12 else str(self.number)
            core += f" {rng.choice(self.detail)}".format(n=rng.choice([number, str(self.number)]))
        if "day" in show:
            core = rng.choice([f"{self.day} , {core}", f"{core} {self.day}"])
        return core.replace(" ,", ",")


def thing_was(thing: str) -> str:
    """Return the thing followed by the right form of "was"."""
    return f"{thing} {'were' if thing.startswith(('two ', 'home ', 'the repairs')) else 'was'}"


def an_event(rng: Rng, frame: Frame | None = None) -> Event:
    frame = frame or rng.choice(FRAMES)
    return Event(
        frame, rng.choice(AGENTS[frame.agents]), chance(rng, 0.5), rng.choice(frame.things),
        rng.choice(TOWNS), a_day(rng), rng.choice(NEWS["details"]), rng.randrange(2, 60),
    )  # fmt: skip


# ---- MRPC: do two news sentences say the same? ----------------------------------------------


def attributed(rng: Rng, text: str) -> str:
    """Say who reports it, or add a remark."""
    name = person_name(rng)
    return rng.choice(
        [f"{text}, a spokeswoman said", f"Officials said that {text}", f"{text}, {name} reported",
         f"According to a statement, {text}", f'{text}. "There is nothing to add," said {name}',
         f"{text}, which surprised few people in the area"]
    )  # fmt: skip


def make_mrpc(rng: Rng, label: str, _split: str) -> Example:
    """Equivalent (1): one event told twice, give or take a minor detail. Not (0): a fact differs.

    Synonyms, voice, word order and who reports it vary alike for both labels.
    """
    event = an_event(rng)
    show = set(rng.sample(["place", "day", "detail"], rng.choice([1, 2, 2, 3])))
    retold, drop = event, set(rng.sample(sorted(show), 1)) if chance(rng, 0.3) else set()
    if label == "0":
        facts = ["agent", "action", "action", "thing"] + [s for s in ("place", "day") if s in show]
        facts += ["number"] if "detail" in show else []
        for slot in rng.sample(facts, rng.choice([1, 2, 2, 3])):
            retold = retold.changed(rng, slot)
            drop -= {slot, "detail" if slot == "number" else slot}
        if retold == event:  # "action" changed twice
            retold = event.changed(rng, "action")
    pair = [event.told(rng, show), retold.told(rng, show - drop)]
    rng.shuffle(pair)
    texts = [attributed(rng, text) if chance(rng, 0.3) else text for text in pair]
    return Example(tuple(spaced(sentence(text)) for text in texts), label)


# ---- STS-B: how much do two sentences agree? ------------------------------------------------

STSB = GRAMMAR["stsb"]
ACTORS: list[list[str]] = STSB["actors"]
CAPTION_ACTS = [(items(verbs), items(things)) for verbs, things in STSB["acts"]]
CAPTION_PLACES, MANNERS = items(STSB["places"]), items(STSB["manners"])
STS_WEIGHTS = {"agent": 1.2, "action": 1.5, "thing": 1.4, "place": 0.5, "day": 0.4}


def _differ(rng: Rng, groups: Sequence[Sequence[str]], word: str) -> tuple[str, float]:
    """Replace a word by a related one (half as different) or by an unrelated one."""
    mates = next(group for group in groups if word in group)
    if chance(rng, 0.5) and len(mates) > 1:
        return other(rng, mates, word), 0.5
    return rng.choice(other(rng, groups, mates)), 1.0


def caption_pair(rng: Rng) -> tuple[list[str], dict[str, float]]:
    """Two picture captions, and how far (0 to 1) each of their facts differs."""
    act = rng.choice(CAPTION_ACTS)
    first = {
        "agent": rng.choice(rng.choice(ACTORS)), "action": rng.choice(act[0]),
        "thing": rng.choice(act[1]), "place": rng.choice(CAPTION_PLACES),
        "day": rng.choice(MANNERS),
    }  # fmt: skip
    second, far = dict(first), dict.fromkeys(STS_WEIGHTS, 0.0)
    for slot in rng.sample(sorted(STS_WEIGHTS), rng.randrange(6)):
        if slot == "agent":
            second[slot], far[slot] = _differ(rng, ACTORS, first[slot])
        elif slot == "place":
            somewhere = other(rng, CAPTION_PLACES, first[slot])
            second[slot], far[slot] = rng.choice([("", 0.5), (somewhere, 1.0)])
        elif slot == "day":
            second[slot], far[slot] = other(rng, MANNERS, first[slot]), 1.0
        elif chance(rng, 0.5):  # another verb or thing of the same kind
            choices = act[0] if slot == "action" else act[1]
            second[slot], far[slot] = other(rng, choices, first[slot]), 0.6
        else:  # something else altogether
            verbs, things = other(rng, CAPTION_ACTS, act)
            second["action"], second["thing"] = rng.choice(verbs), rng.choice(things)
            far["action"] = far["thing"] = 1.0
    texts = []
    for facts in (first, second):
        actor, verb, thing = (rng.choice(facts[s].split("/")) for s in ("agent", "action", "thing"))
        core = f"{a(actor)} is {doing(verb)} {a(thing)}"
        texts.append(sentence(core, facts["place"], facts["day"]))
    return texts, far


def news_pair(rng: Rng) -> tuple[list[str], dict[str, float]]:
    """Two news sentences, and how far (0 to 1) each of their facts differs."""
    event = an_event(rng)
    again, far = event, dict.fromkeys(STS_WEIGHTS, 0.0)
    for slot in rng.sample(sorted(STS_WEIGHTS), rng.randrange(6)):
        again = again.changed(rng, slot)
        far[slot] = 0.6 if slot in ("action", "thing") else 1.0
    if far["agent"] and chance(rng, 0.6):  # another event altogether
        again = an_event(rng, other(rng, FRAMES, event.frame))
        far = dict.fromkeys(far, 1.0)
    return [sentence(one.told(rng, ("place", "day"))) for one in (event, again)], far


def make_stsb(rng: Rng, label: str, _split: str) -> Example:
    """Score: 5 less the weights of the facts that differ. ``label`` is its whole-number part."""
    while True:
        genre = rng.choice(["main-captions", "main-news"])
        texts, far = caption_pair(rng) if genre == "main-captions" else news_pair(rng)
        score = 5.0 - sum(weight * far[slot] for slot, weight in STS_WEIGHTS.items())
        if int(label) <= score < int(label) + 1 or (label == "4" and score == 5.0):
            rng.shuffle(texts)
            return Example((texts[0], texts[1]), f"{score:.3f}", genre)


# ---- QQP: do two questions ask the same? ----------------------------------------------------

QQP = GRAMMAR["qqp"]
ACTIVITIES: list[list[str]] = QQP["activities"]
INTENTS: list[list[str]] = QQP["intents"]
CONTEXTS: list[list[str]] = [["", ""]] * 3 + QQP["contexts"]
SETTINGS = items(QQP["settings"])


def make_qqp(rng: Rng, label: str, _split: str) -> Example:
    """Duplicate (1): the same intent, activity and circumstances in other words.

    Not (0): at least one of the three differs, often with nearly all words shared.
    """
    group = rng.choice(ACTIVITIES)
    first = (rng.choice(INTENTS), rng.choice(group), rng.choice(CONTEXTS))
    intent, activity, context = first
    if label == "0":
        way = rng.choice(["intent", "intent", "intent", "related", "unrelated", "context"])
        if way == "intent":
            intent = other(rng, INTENTS, intent)
            activity = rng.choice(group)
        elif way == "related":
            activity = other(rng, group, activity)
        elif way == "unrelated":
            activity = rng.choice(other(rng, ACTIVITIES, group))
        else:
            context = other(rng, CONTEXTS, context)
    texts = []
    for patterns, wordings, settings in (first, (intent, activity, context)):
        do = rng.choice(wordings.split("/"))
        x = rng.choice(settings)
        question = rng.choice(patterns).format(do=do, doing=doing(do), x=f" {x}" if x else "")
        if chance(rng, 0.12):
            before = rng.choice(SETTINGS).format(town=rng.choice(TOWNS), n=rng.randrange(2, 8))
            question = f"{before} {question}"
        texts.append(question)
    return Example(tuple(texts), label)


# ---- MNLI and the diagnostic set: entailment, neutral, contradiction ------------------------


MNLI = GRAMMAR["mnli"]
MATCHED = ("kitchen", "school", "travel", "office", "theatre")
MISMATCHED = ("farm", "harbour", "hospital")
TRAITS, OPENERS, ASIDES, INTENDED, MANAGED, FAILED = (
    items(MNLI[key]) for key in ("traits", "openers", "asides", "intended", "managed", "failed")
)


def _group(noun: str, amount: str, number: int, trait: str = "") -> tuple[str, bool]:
    """A subject for the given amount, and whether it is plural."""
    phrases = {
        "one": f"the {trait} {noun}", "unknown": f"one of the {plural(noun)}",
        "number": f"{NUMBERS[number]} {trait} {plural(noun)}",
        "some": f"some of the {plural(noun)}", "all": f"all the {plural(noun)}",
        "none": f"none of the {plural(noun)}",
    }  # fmt: skip
    return phrases[amount].replace("  ", " "), amount not in ("one", "unknown")


def _scene(
    rng: Rng, subject: tuple[str, bool], act: str, verb: str, thing: str, extras: dict[str, str]
) -> str:
    """Word a scene; ``act`` goes before the verb ("did not", "wanted to") and may be empty."""
    who, many = subject
    where, when, detail = (extras.get(slot, "") for slot in ("place", "time", "detail"))
    if act:
        core = f"{who} {act.replace('was ', 'were ') if many else act} {verb} the {thing}"
    elif chance(rng, 0.15) and not who.startswith("none"):
        core = f"the {thing} was {done(verb)} by {who}"
    else:
        core = f"{who} {past(verb)} the {thing}"
    if when and chance(rng, 0.3):
        return " ".join(part for part in (f"{when},", core, where, detail) if part)
    return " ".join(part for part in (core, where, when, detail) if part)


def make_mnli(rng: Rng, label: str, split: str) -> Example:
    """The hypothesis is drawn first, whatever the label; then a premise is built for the label.

    entailment: the premise says it more exactly (a narrower noun, a number, more details).
    contradiction: the premise denies it, or has the opposite verb, another number, place or time.
    neutral: the premise lacks a detail, is less exact, or only speaks of an intention.
    """
    genre = rng.choice(MISMATCHED if split == "mismatched" else MATCHED)
    words = MNLI["genres"][genre]
    exact, wider = rng.choice(items(words["people"])).split("<")
    does, undoes, things = (part.split("/") for part in rng.choice(words["acts"]))
    if chance(rng, 0.5):
        does, undoes = undoes, does
    thing, number = rng.choice(things), rng.randrange(2, 10)
    places, times, details = (items(words[key]) for key in ("places", "times", "details"))
    facts = {"place": rng.choice(places), "time": rng.choice(times), "detail": rng.choice(details)}
    positive = chance(rng, 0.7)
    amount = rng.choice(["one", "one", "number", "some", "all"]) if positive else "one"
    noun = wider if amount != "all" and chance(rng, 0.25) else exact
    told = rng.sample(sorted(facts), rng.choice([0, 1, 2, 2])) if positive else []
    hypothesis = _scene(
        rng, _group(noun, amount, number), "" if positive else "did not", rng.choice(does), thing,
        {slot: facts[slot] for slot in told},
    )  # fmt: skip

    # The premise starts out as the same scene with more details and maybe a narrower noun.
    mood = "real" if positive else "failed"
    verbs, said_amount, said_noun = does, amount, exact
    said = {s: text for s, text in facts.items() if s in told or chance(rng, 0.4)}
    if label == "entailment":
        if not positive and chance(rng, 0.4):
            mood, verbs = "real", undoes
        if amount == "some":
            said_amount = rng.choice(["number", "all", "some"])
    elif label == "contradiction":
        ways = ["deny", "opposite", *(slot for slot in told if slot != "detail")]
        way = rng.choice(ways if positive else ["deny"])
        if way == "deny":
            mood = "failed" if positive else "real"
            if amount in ("some", "number"):
                mood, said_amount, said_noun = "real", "none", noun
                if amount == "number" and chance(rng, 0.6):
                    said_amount, number = "number", other(rng, range(2, 10), number)
            elif amount == "all":
                said_amount = rng.choice(["some", "number"])
        elif way == "opposite":
            verbs, said_amount = undoes, "all" if amount == "some" else amount
        else:
            said[way] = other(rng, places if way == "place" else times, facts[way])
    else:
        ways = ["intend", *["missing"] * 2 * bool(told), *["wider"] * (noun == exact)]
        way = rng.choice([*ways, *["fewer"] * (amount == "all")])
        if way == "intend":
            mood = "intended"
        elif way == "missing":
            said = {}
        elif way == "wider":
            said_noun, said_amount = wider, "unknown" if amount == "one" else amount
        else:
            said_amount = "some"
    if mood == "failed":
        said.pop("detail", None)
    trait = rng.choice(TRAITS) if chance(rng, 0.25) else ""
    act = {"real": rng.choice(MANAGED) if said_amount != "none" and chance(rng, 0.2) else "",
           "failed": rng.choice(FAILED), "intended": rng.choice(INTENDED)}[mood]  # fmt: skip
    subject = _group(said_noun, said_amount, number, trait)
    premise = _scene(rng, subject, act, rng.choice(verbs), thing, said)
    text = f"{sentence(rng.choice(OPENERS), premise)} {rng.choice(ASIDES)}".strip()
    return Example((text, sentence(hypothesis)), label, genre)


# ---- QNLI: does the sentence answer the question? -------------------------------------------

QNLI = GRAMMAR["qnli"]
COINED, MATERIALS = items(QNLI["coined"]), items(QNLI["materials"])


def make_qnli(rng: Rng, label: str, _split: str) -> Example:
    """entailment: the sentence holds the fact asked for. not_entailment: it holds others.

    Sentence and question are about the same thing; in the second case the sentence may still give
    an answer of the right type (another year, another person), or the fact about something else.
    """
    topic = QNLI["topics"][rng.choice(sorted(QNLI["topics"]))]
    facts, pronoun = topic["facts"], topic["pronoun"]
    coined = rng.sample(COINED, 2)
    women = [f"{first} {last}" for first, last in
             zip(rng.sample(WOMEN, 2), rng.sample(SURNAMES, 2), strict=True)]  # fmt: skip
    entity, rival = (topic["name"].format(name=coined[i], woman=women[i]) for i in range(2))

    def fact(index: int) -> str:
        pattern: str = facts[index][0]
        return pattern.format(
            person=person_name(rng), town=rng.choice(TOWNS), stuff=rng.choice(MATERIALS),
            early=rng.randrange(1640, 1860), late=rng.randrange(1861, 1999),
            n=rng.randrange(12, 900),
        )  # fmt: skip

    order = rng.sample(range(len(facts)), len(facts))
    size = rng.choice([2, 2, 3, 4])
    given, missing = order[:size], order[size:]
    asked = rng.choice(given if label == "entailment" else missing)
    said = [fact(index) for index in given]
    if chance(rng, 0.2):  # bring in a rival, with a fact of its own
        rival_fact = rng.choice(missing)
        if label == "not_entailment" and chance(rng, 0.5):
            asked = rival_fact
        link = "who" if pronoun == "she" else "which"
        entry = rng.choice([f"unlike {rival}, {link} {fact(rival_fact)}, {entity}",
                            f"while {rival} {fact(rival_fact)}, {entity}"])  # fmt: skip
    else:
        entry = rng.choice([entity, entity, f"according to {person_name(rng)}, {entity}"])
    if len(said) == 2 or chance(rng, 0.5):
        text = sentence(entry, ", ".join(said[:-1]), "and", said[-1])
    else:
        text = sentence(entry, said[0], "and", said[1]) + " "
        text += sentence(pronoun, ", ".join(said[2:-1]), "and" * (len(said) > 3), said[-1])
    return Example((rng.choice(facts[asked][1:]).format(e=entity), text), label)


# ---- RTE: does the text entail the statement? -----------------------------------------------

RTE = GRAMMAR["rte"]


def _reported(rng: Rng, event: Event, real: bool) -> str:
    """Word an event that happened, or one that is only talked about, with place and day."""
    verb, thing = rng.choice(event.verbs), rng.choice(event.thing)
    pattern: str = rng.choice(items(RTE["factual" if real else "not_factual"]))
    core = pattern.format(
        A=event.agent, v=verb, w=past(verb), d=done(verb), t=thing, t_was=thing_was(thing)
    )  # fmt: skip
    return f"in {event.place}, {core}"


def make_rte(rng: Rng, label: str, _split: str) -> Example:
    """The text tells of two events, of which the second may only be planned, denied or refused.

    entailment: the statement repeats one that happened. not_entailment: it repeats one that did
    not, mixes the two up, turns an action into its opposite, or brings in facts of its own.
    """
    frame = rng.choice(FRAMES)
    first = an_event(rng, frame)
    rivals = [f for f in FRAMES if f.agents == frame.agents]
    second = an_event(rng, frame if chance(rng, 0.4) else rng.choice(rivals))
    if second.agent == first.agent:
        second = second.changed(rng, "agent")
    if second.thing == first.thing:
        second = second.changed(rng, "thing")
    if second.place == first.place:
        second = second.changed(rng, "place")
    second_real = chance(rng, 0.3)
    parts = [_reported(rng, first, True), _reported(rng, second, second_real)]
    rng.shuffle(parts)
    link = rng.choice([", while {}", ". Meanwhile, {}", "; {}"]).format(parts[1])
    text = sentence(parts[0] + link)
    if chance(rng, 0.2):
        text += " " + rng.choice(items(RTE["background"])).format(name=person_name(rng)) + "."
    claim = rng.choice([first, second]) if second_real else first
    if label == "not_entailment":
        slot = rng.choice(["agent", "thing", "place"])
        way = rng.choice(["action", "mixed", *["new"] * 4, *["unreal"] * (not second_real)])
        if way == "unreal":
            claim = second
        elif way == "action":
            claim = claim.changed(rng, "action")
        elif way == "mixed":
            rival = second if claim is first else first
            claim = replace(claim, agent=rival.agent, place=rival.place)
        else:
            for slot in rng.sample(["agent", "thing", "place"], 2):
                while getattr(claim, slot) in (getattr(first, slot), getattr(second, slot)):
                    claim = claim.changed(rng, slot)
        show = ["place"] if slot == "place" or chance(rng, 0.4) else []
    else:
        show = ["place"] if chance(rng, 0.6) else []
    return Example((text, sentence(claim.told(rng, show))), label)


# ---- WNLI: whom or what does the pronoun stand for? -----------------------------------------

WNLI = GRAMMAR["wnli"]


def make_wnli(rng: Rng, label: str, split: str) -> Example:
    """The pronoun is replaced by the one the reason fits (1), or by another one (0).

    That other one is the second candidate or, more rarely, somebody or something of the same kind
    that the text does not mention. Half of the reasons fit the first candidate and half the
    second. Some nouns and names are kept for validation and test.
    """
    schema = rng.choice(WNLI["schemas"])
    pattern: str = schema["pattern"]
    she = rng.choice(["she", "he"])
    things = "nouns" in schema
    if things:
        kinds = [items(WNLI["nouns"][kind]) for kind in schema["nouns"]]
        nouns = [[f"the {noun}" for noun in known(kind, split)] for kind in kinds]
    else:
        nouns = [known(WOMEN if she == "she" else MEN, split)] * 2
    one = rng.choice(nouns[0])
    two = other(rng, nouns[1], one)
    fits_one = chance(rng, 0.5)
    why = rng.choice(items(schema["fits_a" if fits_one else "fits_b"]))
    if label == "1":
        chosen = one if fits_one else two
    elif chance(rng, 0.6):
        chosen = two if fits_one else one
    else:
        chosen = other(rng, rng.choice(nouns), one, two)
    text = sentence(pattern.format(a=one, b=two, why=why, she=she)[:-1])
    if chance(rng, 0.3):
        start = rng.choice(items("In the end, | Last winter, | Sadly, | Of course,"))
        text = f"{start} {text[0].lower() + text[1:] if things else text}"
    return Example((text, sentence(chosen, "was" if things else "", why)), label)


# ---- Files: columns, splits, label shares ---------------------------------------------------

_PAIR = "index\tsentence1\tsentence2"
_MNLI = ("index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse"
         "\tsentence1_parse\tsentence2_parse\tsentence1\tsentence2")  # fmt: skip
_STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
_MRPC = "#1 ID\t#2 ID\t#1 String\t#2 String"


@dataclass(frozen=True)
class Task:
    """How to draw and lay out the rows of one task.

    ``texts`` names the columns of the texts an example holds; ``label`` that of its label.
    ``shares`` gives the share of each label.
    """

    make: Maker
    texts: tuple[str, ...]
    label: str
    shares: dict[str, float]
    header: str
    test_header: str


_TWO = ("sentence1", "sentence2")
_ENTAILS = {"entailment": 0.5, "not_entailment": 0.5}
_EVEN = {"0": 0.5, "1": 0.5}
_NLI = {"entailment": 1 / 3, "neutral": 1 / 3, "contradiction": 1 / 3}
TASKS = {
    "CoLA": Task(make_cola, ("sentence",), "label", {"1": 0.7, "0": 0.3},
                 "source\tlabel\tstar\tsentence", "index\tsentence"),
    "SST-2": Task(make_sst2, ("sentence",), "label", _EVEN, "sentence\tlabel", "index\tsentence"),
    "MRPC": Task(make_mrpc, ("#1 String", "#2 String"), "Quality", {"1": 0.67, "0": 0.33},
                 "Quality\t" + _MRPC, "index\t" + _MRPC),
    "STS-B": Task(make_stsb, _TWO, "score", dict.fromkeys("01234", 0.2),
                  _STSB + "\tscore", _STSB),
    "QQP": Task(make_qqp, ("question1", "question2"), "is_duplicate", {"0": 0.63, "1": 0.37},
                "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "id\tquestion1\tquestion2"),
    "MNLI": Task(make_mnli, _TWO, "gold_label", _NLI,
                 _MNLI + "\tlabel1\tgold_label", _MNLI),
    "QNLI": Task(make_qnli, ("question", "sentence"), "label", _ENTAILS,
                 "index\tquestion\tsentence\tlabel", "index\tquestion\tsentence"),
    "RTE": Task(make_rte, _TWO, "label", _ENTAILS, _PAIR + "\tlabel", _PAIR),
    "WNLI": Task(make_wnli, _TWO, "label", _EVEN, _PAIR + "\tlabel", _PAIR),
}  # fmt: skip
_MNLI_DEV = _MNLI + "".join(f"\tlabel{i}" for i in range(1, 6)) + "\tgold_label"


def draw(
    make: Maker,
    rng: Rng,
    split: str,
    shares: dict[str, float],
    count: int,
    seen: set[frozenset[str]],
) -> list[Example]:
    """Draw ``count`` examples with the given shares of labels, none of them in ``seen``."""
    labels: list[str] = []
    for label, share in shares.items():
        labels += [label] * round(count * share)
    labels = (labels + list(shares))[:count]  # rounding may leave one or two short
    rng.shuffle(labels)
    rows: list[Example] = []
    for label in labels:
        while True:
            example = make(rng, label, split)
            texts = frozenset(example.texts)  # a pair the other way round is a repeat, too
            if texts not in seen and len(texts) == len(example.texts):
                break
        seen.add(texts)
        rows.append(example)
    return rows


def lay_out(folder: str, split: str, header: str, rows: Iterable[Example]) -> bytes:
    """Turn examples into the bytes of one file, with the quirks of the official one."""
    task = TASKS[folder]
    bare = folder == "CoLA" and split != "test"  # no header line
    lines = [] if bare else [header]
    for index, example in enumerate(rows):
        cells = dict.fromkeys(header.split("\t"), "NA") | {
            "index": str(index), "id": str(index), "old_index": f"{index:04d}",
            "qid1": str(2 * index + 1), "qid2": str(2 * index + 2),
            "#1 ID": str(700000 + 2 * index), "#2 ID": str(700001 + 2 * index),
            "genre": example.source, "source": example.source,
            "filename": "sample", "year": "none", "source1": "none", "source2": "none",
        }  # fmt: skip
        cells |= dict(zip(task.texts, example.texts, strict=True))
        cells |= {task.label: example.label, "star": "*" if example.label == "0" else ""}
        lines.append("\t".join(cells[column] for column in header.split("\t")))
    mark = "\ufeff" if folder == "MRPC" and split != "test" else ""
    return (mark + "\n".join(lines) + "\n").encode("utf-8")


def build() -> dict[str, bytes]:
    """Return every file of the sample: its path below the sample folder, and its bytes."""
    files = {}
    for folder, task in TASKS.items():
        seen: set[frozenset[str]] = set()
        plan = [(split, split, task.test_header if split == "test" else task.header, rows)
                for split, rows in ROWS.items()]  # fmt: skip
        if folder == "MNLI":  # (file name, split, header, number of rows)
            plan = [("train", "train", task.header, ROWS["train"])]
            for part in ("matched", "mismatched"):
                plan.append((f"dev_{part}", part, _MNLI_DEV, ROWS["dev"]))
                plan.append((f"test_{part}", part, task.test_header, ROWS["test"]))
        for name, split, header, count in plan:
            rng = Rng(f"{SEED}/{folder}/{name}")
            rows = draw(task.make, rng, split, task.shares, count, seen)
            files[f"{folder}/{name}.tsv"] = lay_out(folder, name, header, rows)
        if folder == "MNLI":  # the diagnostic set has the same labels, and no label column
            rng = Rng(f"{SEED}/diagnostic")
            rows = draw(make_mnli, rng, "diagnostic", task.shares, DIAGNOSTIC_ROWS, seen)
            files["diagnostic/diagnostic.tsv"] = lay_out("MNLI", "diagnostic", _PAIR, rows)
    return files


def main() -> int:
    """Write the files, or compare them with what is there."""
    parser = argparse.ArgumentParser(description="Write the embedded sample data set.")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    check = parser.parse_args().check
    files = build()
    if check:
        found = SAMPLE_DIR.rglob("*.tsv")
        there = {path.relative_to(SAMPLE_DIR).as_posix(): path.read_bytes() for path in found}
        names = sorted(files.keys() | there.keys())
        wrong = [name for name in names if files.get(name) != there.get(name)]
        for name in wrong:
            print(f"differs: {name}", file=sys.stderr)
        return 1 if wrong else 0
    for name, content in files.items():
        target = SAMPLE_DIR / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
