"""The 36 categories: who draws them, what colours they like, and which nine no model ever sees in training."""

from collections.abc import Callable
from dataclasses import dataclass

from sfhelpers.toyworld import animals, places, things, vehicles
from sfhelpers.toyworld.shapes import Drawing, Uniform


@dataclass(frozen=True)
class Category:
    """How a category is drawn.

    Args:
        draw: makes one random individual.
        colours: colour families of tone 0 and tone 1; an individual may still come in any other colour.
    """

    draw: Callable[[Uniform], Drawing]
    colours: tuple[str, str]


CATEGORIES = {
    "airplane": Category(vehicles.airplane, ("white", "blue")),
    "apple": Category(places.apple, ("red", "green")),
    "bicycle": Category(vehicles.bicycle, ("blue", "brown")),
    "bottle": Category(things.bottle, ("green", "red")),
    "bus": Category(vehicles.bus, ("yellow", "red")),
    "butterfly": Category(animals.butterfly, ("orange", "purple")),
    "cactus": Category(places.cactus, ("green", "orange")),
    "car": Category(vehicles.car, ("red", "grey")),
    "cat": Category(animals.cat, ("orange", "pink")),
    "chair": Category(things.chair, ("brown", "red")),
    "church": Category(places.church, ("white", "grey")),
    "clock": Category(things.clock, ("red", "yellow")),
    "cow": Category(animals.cow, ("white", "brown")),
    "cup": Category(things.cup, ("blue", "yellow")),
    "dog": Category(animals.dog, ("brown", "orange")),
    "duck": Category(animals.duck, ("yellow", "orange")),
    "fish": Category(animals.fish, ("orange", "blue")),
    "flower": Category(places.flower, ("pink", "green")),
    "giraffe": Category(animals.giraffe, ("yellow", "brown")),
    "guitar": Category(things.guitar, ("orange", "brown")),
    "hammer": Category(things.hammer, ("grey", "brown")),
    "horse": Category(animals.horse, ("brown", "grey")),
    "house": Category(places.house, ("white", "red")),
    "key": Category(things.key, ("yellow", "grey")),
    "lamp": Category(things.lamp, ("yellow", "brown")),
    "mushroom": Category(places.mushroom, ("red", "white")),
    "rabbit": Category(animals.rabbit, ("grey", "pink")),
    "sailboat": Category(vehicles.sailboat, ("brown", "white")),
    "table": Category(things.table, ("brown", "orange")),
    "teapot": Category(things.teapot, ("blue", "white")),
    "tree": Category(places.tree, ("green", "brown")),
    "truck": Category(vehicles.truck, ("blue", "grey")),
    "turtle": Category(animals.turtle, ("green", "yellow")),
    "umbrella": Category(things.umbrella, ("purple", "pink")),
    "windmill": Category(places.windmill, ("white", "red")),
    "wine_glass": Category(things.wine_glass, ("white", "red")),
}

# Each unseen category has a look-alike among the seen ones (giraffe/horse, truck/bus, teapot/cup, ...),
# so that "never seen" does not mean "easy to tell apart".
UNSEEN = ("butterfly", "church", "giraffe", "hammer", "mushroom", "rabbit", "teapot", "truck", "wine_glass")
SEEN = tuple(name for name in CATEGORIES if name not in UNSEEN)

COLOURS = {  # RGB in [0, 1]
    "brown": (0.55, 0.36, 0.22),
    "green": (0.33, 0.56, 0.29),
    "red": (0.80, 0.25, 0.22),
    "blue": (0.27, 0.45, 0.72),
    "yellow": (0.91, 0.75, 0.31),
    "orange": (0.89, 0.55, 0.25),
    "pink": (0.90, 0.58, 0.64),
    "purple": (0.52, 0.38, 0.66),
    "grey": (0.52, 0.54, 0.57),
    "white": (0.91, 0.89, 0.85),
}
