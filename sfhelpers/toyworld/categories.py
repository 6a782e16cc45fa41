"""The 36 categories by name, which nine no model ever sees in training, and the colours they are painted in."""

from sfhelpers.toyworld import living, made
from sfhelpers.toyworld.shapes import Drawing, Stream

USUAL = {  # the main and the second colour of each category
    "airplane": "white blue", "apple": "red green", "bicycle": "blue brown", "bottle": "green red", "bus": "yellow red",
    "butterfly": "orange purple", "cactus": "green orange", "car": "red grey", "cat": "orange pink",
    "chair": "brown red", "church": "white grey", "clock": "red yellow", "cow": "white brown", "cup": "blue yellow",
    "dog": "brown orange", "duck": "yellow orange", "fish": "orange blue", "flower": "pink green",
    "giraffe": "yellow brown", "guitar": "orange brown", "hammer": "grey brown", "horse": "brown grey",
    "house": "white red", "key": "yellow grey", "lamp": "yellow brown", "mushroom": "red white", "rabbit": "grey pink",
    "sailboat": "brown white", "table": "brown orange", "teapot": "blue white", "tree": "green brown",
    "truck": "blue grey", "turtle": "green yellow", "umbrella": "purple pink", "windmill": "white red",
    "wine_glass": "white red",
}  # fmt: skip
CATEGORIES = tuple(USUAL)

# Each has a look-alike among the seen ones (giraffe/horse, ...): "never seen" is not to mean "easy to tell apart".
UNSEEN = ("butterfly", "church", "giraffe", "hammer", "mushroom", "rabbit", "teapot", "truck", "wine_glass")
SEEN = tuple(name for name in CATEGORIES if name not in UNSEEN)

COLOURS = {  # RGB in [0, 1]
    "brown": (0.55, 0.36, 0.22), "green": (0.33, 0.56, 0.29), "red": (0.80, 0.25, 0.22), "blue": (0.27, 0.45, 0.72),
    "yellow": (0.91, 0.75, 0.31), "orange": (0.89, 0.55, 0.25), "pink": (0.90, 0.58, 0.64),
    "purple": (0.52, 0.38, 0.66), "grey": (0.52, 0.54, 0.57), "white": (0.91, 0.89, 0.85),
}  # fmt: skip


def individual(category: str, rng: Stream) -> Drawing:
    """A random one of a category."""
    drawing = Drawing()
    (vars(living) | vars(made))[category](drawing, rng.uniform)
    return drawing
