"""Passages with honest rewrites written by hand, and how to turn an answer into a rewrite."""

from __future__ import annotations

from synpro.operations.base import Operation, read
from synpro.records import Completion, Passage, Rewrite

SOURCES = {
    "lighthouse": (
        "The Eddystone Lighthouse stands on dangerous rocks about 14 kilometres south of Plymouth in England. "
        "The first tower, built of wood by Henry Winstanley, was lit in 1698 and destroyed in the great storm "
        "of November 1703, with its builder inside. John Smeaton later built a stone tower shaped like the "
        "trunk of an oak, and the hydraulic lime he developed for it led to modern cement."
    ),
    "honey": (
        "Honey bees make honey from the nectar of flowers. Foragers carry the nectar home in a second "
        "stomach, where enzymes begin to split its sucrose into glucose and fructose. In the hive other "
        "workers pass it from mouth to mouth and spread it over the comb, and the draught of their wings "
        "dries it until less than 18 percent of it is water. Sealed under wax, it keeps for years."
    ),
    "printing": (
        "Movable type was first made in China by Bi Sheng in about 1040, from baked clay. In Europe Johannes "
        "Gutenberg of Mainz cast letters in a metal alloy and printed a Latin Bible of 42 lines to the page "
        "by 1455. Some 180 copies were produced, of which 49 survive in whole or in part. Within fifty years "
        "there were presses in more than two hundred European towns."
    ),
    "glacier": (
        "A glacier forms where more snow falls in winter than melts in summer. Over the years the weight of "
        "new layers presses the snow below into grains and then into solid ice. Once the ice is thick enough "
        "it begins to flow downhill under its own weight, a few centimetres to several metres a day. The "
        "valleys it leaves behind have the shape of a U."
    ),
}

REPHRASED = {
    "lighthouse": (
        "Some 14 kilometres south of Plymouth, England, the Eddystone Lighthouse rises from treacherous "
        "rocks. Henry Winstanley put up the first one in timber. It began to shine in 1698, but the great "
        "storm of November 1703 swept it away together with the man who had made it. Afterwards John Smeaton "
        "raised a tower of stone in the form of an oak trunk; modern cement goes back to the hydraulic lime "
        "that he worked out for it."
    ),
    "honey": (
        "The nectar of flowers is what honey bees turn into honey. A forager brings it home in an extra "
        "stomach, and enzymes there start breaking the sucrose down into glucose and fructose. Workers inside "
        "the hive hand the nectar on by mouth, lay it out across the comb and fan it dry with their wings, "
        "until water makes up under 18 percent. Once it is closed off with wax, it stays good for years."
    ),
    "printing": (
        "Bi Sheng of China made the first movable type around 1040, using clay that he baked. Johannes "
        "Gutenberg, from Mainz, was the one in Europe who formed letters out of a metal alloy; by 1455 he had "
        "printed the Bible in Latin with 42 lines on every page. Of roughly 180 copies, 49 are still there "
        "today, complete or in part. Half a century later over two hundred towns in Europe had printing "
        "presses."
    ),
}

REFORMATTED = {
    "lighthouse": (
        "Topic: Where the Eddystone Lighthouse stands\n"
        "Content: The Eddystone Lighthouse is on dangerous rocks some 14 kilometres south of Plymouth, "
        "England.\n\n"
        "Topic: The first tower\n"
        "Content: Henry Winstanley built the first tower of wood; it was lit in 1698, and the great storm of "
        "November 1703 destroyed it with him inside.\n\n"
        "Topic: Smeaton and cement\n"
        "Content: John Smeaton built a stone tower in the shape of an oak trunk, and the hydraulic lime he "
        "developed for it led to modern cement."
    ),
    "honey": (
        "Topic: From nectar to honey\n"
        "Content: Honey bees carry the nectar of flowers to the hive in a second stomach, where enzymes split "
        "its sucrose into glucose and fructose.\n\n"
        "Topic: Drying\n"
        "Content: Workers in the hive pass the nectar from mouth to mouth, spread it over the comb and fan it "
        "with their wings until it is less than 18 percent water.\n\n"
        "Topic: Why honey keeps\n"
        "Content: The honey is sealed under wax and keeps for years."
    ),
    "printing": (
        "Topic: First movable type\n"
        "Content: Bi Sheng made movable type from baked clay in China in about 1040.\n\n"
        "Topic: Gutenberg's Bible\n"
        "Content: Johannes Gutenberg of Mainz cast letters in a metal alloy and by 1455 printed a Latin Bible "
        "with 42 lines to the page; 49 of some 180 copies survive in whole or in part.\n\n"
        "Topic: Spread of printing\n"
        "Content: Within fifty years more than two hundred European towns had presses."
    ),
}


def passage(name: str) -> Passage:
    text = SOURCES[name]
    return Passage(f"{name}#0000", name, 0, 0, len(text), text)


def answered(operation: Operation, name: str, answer: str) -> Rewrite:
    return read(operation, passage(name), Completion(answer, len(answer) // 4, "stop"))
