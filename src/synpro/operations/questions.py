"""questions: turn the passage into questions and answers, so that what it says is recalled as well as read.

In the spirit of FAQ rewriting, one of the forms that gain most in a comparison of rewriting prompts (arXiv 2604.13977). It is
not part of the SynPro paper; words, example and settings are ours. An answer is a list of `Question:` / `Answer:` pairs.
"""

from __future__ import annotations

from collections.abc import Mapping

from synpro.operations.base import Example, OperationConfig, ParseError
from synpro.operations.entries import COUNTS, EntryOperation


class Questions(EntryOperation):
    """The passage as questions that it answers, each with its answer."""

    name = "questions"
    headings = ("Question:", "Answer:")
    defaults = OperationConfig(
        name,
        weights={"influence": 3.0, "quality": 1.0, "faithfulness": 1.0, "format": 1.0},
        steps=240,
        max_copied=0.95,  # as reformat: an answer often has to use the passage's own words
        enough_words=80,
        min_recall=0.45,
        min_precision=0.55,
    )
    default_examples = (
        Example(
            source=(
                "The Danube rises in the Black Forest of Germany and flows southeast for about 2,850 kilometres to the Black "
                "Sea. It passes through ten countries, more than any other river in the world. Vienna, Bratislava, Budapest "
                "and Belgrade are capitals on its banks."
            ),
            answer=(
                "Question: How long is the Danube?\nAnswer: The Danube is about 2,850 kilometres long.\n"
                "Question: Which capitals does it pass?\nAnswer: It passes Vienna, Bratislava, Budapest and Belgrade."
            ),
        ),
    )

    def instruction(self, text: str) -> str:
        question, answer = self.headings
        number = COUNTS[self.asked(text)]
        return f'Write {number} questions about the passage, each with a line "{question}" and a line "{answer}".'

    def entries(self, answer: str) -> list[tuple[str, str]]:
        """The (question, answer) pairs. Also raises ParseError for what is not a question."""
        found = super().entries(answer)
        for question, _ in found:
            if not question.endswith("?"):
                raise ParseError(f"{question[:60]!r} is not a question; it does not end in a question mark")
        return found

    def claims(self, text: str) -> list[str]:
        """Each question with its answer: "1698" alone says nothing that a passage could support."""
        return [f"{question} {answer}" for question, answer in self.entries(text)]

    def render(self, text: str, topic: str = "What does the passage say") -> str:
        return super().render(text, f"{topic.rstrip('?')}?")

    def reference_answers(self) -> Mapping[str, str]:
        return {id: "\n\n".join(self._entry(*pair) for pair in pairs) for id, pairs in REFERENCE_ANSWERS.items()}


REFERENCE_ANSWERS = {
    "lighthouse": (
        ("Where is the Eddystone Lighthouse?", "It is on dangerous rocks some 14 kilometres south of Plymouth, England."),
        ("Who built the first tower?", "Henry Winstanley built it of wood, and it was lit in 1698."),
        ("How was the first tower lost?", "The great storm of November 1703 destroyed it with its builder inside."),
        ("What did Smeaton's work lead to?", "The hydraulic lime he developed for his stone tower led to modern cement."),
    ),
    "honey": (
        ("What do honey bees make honey from?", "They make it from the nectar of flowers."),
        (
            "What happens to the nectar on the way home?",
            "In a second stomach enzymes begin to split its sucrose.",
        ),
        (
            "How do the bees dry the nectar?",
            "They spread it over the comb and fan it until it is under 18 percent water.",
        ),
        ("Why does honey keep for years?", "It keeps because the bees seal it under wax."),
    ),
    "printing": (
        ("Who first made movable type?", "Bi Sheng made it in China in about 1040, from baked clay."),
        ("What did Gutenberg print by 1455?", "By 1455 he had printed a Latin Bible with 42 lines to the page."),
        ("How many copies of the Bible are left?", "Of about 180 copies, 49 survive, some of them only in part."),
        ("How fast did printing spread?", "Within fifty years more than two hundred European towns had presses."),
    ),
    "glacier": (
        ("Where does a glacier form?", "It forms where the snow that falls in winter is more than what melts in summer."),
        ("How does snow become ice?", "New layers press the old snow into grains and, over the years, into solid ice."),
        ("How fast does a glacier move?", "Thick ice flows downhill by a few centimetres to several metres a day."),
        ("What shape has the valley of a glacier?", "The valley that it leaves behind has the shape of a U."),
    ),
    "pendulum": (
        ("What sets the time of a swing?", "Its length and gravity do; at small angles the width of the swing hardly matters."),
        ("How does length change the time?", "A pendulum four times as long takes twice the time."),
        ("How would it swing on the Moon?", "About two and a half times more slowly, as gravity there is one sixth of ours."),
    ),
    "offer": (
        ("When does an offer bind its maker?", "It binds once the other side has accepted it."),
        ("When can an offer not be withdrawn?", "When it was promised to stay open for a time and that promise was paid for."),
        ("What if the acceptance changes the price?", "Then it is a new offer, and the first offer lapses without a contract."),
    ),
    "discharge": (
        ("Why did the patient come in?", "The woman, who is 58, had a fever of 39.2 degrees and had coughed for six days."),
        ("What did the X-ray show?", "It showed pneumonia of the left lower lung."),
        ("How was she treated?", "She took amoxicillin by mouth for seven days and needed no oxygen."),
        ("What should she do next?", "She may go home today and should see her doctor in two weeks."),
    ),
    "radiator": (
        (
            "What comes before opening the valve?",
            "Turn the heating off, wait until it is cold, and hold a cup under the valve.",
        ),
        ("When is the valve closed again?", "Close it when the hissing stops and water comes out."),
        ("What if the gauge shows less than 1 bar?", "Then water must be added to the system."),
        ("What is the last step?", "The last step is to turn the heating on again."),
    ),
    "ferry": (
        ("When does this plan of the ferry hold?", "It holds from May to September."),
        ("What does a bicycle cost?", "A bicycle costs 4 euros more on every crossing."),
        (
            "When does the ferry run on working days?",
            "From Monday to Friday it first crosses at 6:40 and last at 19:10.",
        ),
        ("What is the price on Saturday and Sunday?", "On both days the price of a crossing is 13 euros."),
    ),
    "workshop": (
        ("What is wrong with the pump?", "The pump is losing oil again, although Jonas changed its seal on Tuesday."),
        ("Why did Jonas use an old seal?", "He used the old kind because the new seals have not come yet."),
        ("How long will the oil last?", "Nine litres are left, enough for two days if it is filled up every four hours."),
        ("Who will call the supplier?", "Mara will call the supplier, and Jonas will tell the night shift."),
    ),
    "retry": (
        ("What does `fetch` return?", "It returns the body of a page as text, or `None` for a code of 404."),
        (
            "What happens at a code of 500 or more?",
            "The call is made again after `wait` seconds, which is doubled each time.",
        ),
        ("What does it raise after the last try?", "It raises `FetchError`, whose field `status` keeps the code."),
    ),
    "anning": (
        ("Who was Mary Anning?", "She was born in Lyme Regis in 1799 and sold fossils from its cliffs to visitors."),
        ("What did she uncover at twelve?", "She uncovered an ichthyosaur whose skeleton her brother Joseph had noticed."),
        ("What did she find in 1823?", "In 1823 she found the first plesiosaur that was complete."),
        ("Did scholars give her credit?", "They bought her finds and wrote about them, but often did not name her."),
    ),
    "baikal": (
        ("How deep is Lake Baikal?", "Its floor is 1,642 metres below the surface, deeper than that of any other lake."),
        ("How much fresh water does it hold?", "It holds about a fifth of all fresh water that is not frozen in ice sheets."),
        ("Which river leaves the lake?", "Only the Angara leaves it, while more than 300 rivers run into it."),
        ("Where does the Baikal seal live?", "It lives in this lake alone and is one of the few seals of fresh water."),
    ),
    "bond": (
        ("What does a bond pay?", "It pays the same interest every year and is paid back in full at the end."),
        ("Why does its price fall when rates rise?", "It falls because buyers can get more interest elsewhere."),
        ("Which bonds fall most?", "Those that still run the longest fall most."),
        ("What if it is bought at 94?", "If it is paid back at 100, its holder earns more than the interest."),
    ),
}
"""A careful person's questions and answers to the passages of the audit."""
