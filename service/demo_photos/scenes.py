"""Scenes of everyday inspection, drawn with simple shapes.

Does: draws a market stall on a pavement, rubbish at a wall, and roofs seen from a drone, with
details that a seeded generator varies. Refuses to resemble a place that exists.

    picture = street_stall(np.random.default_rng(0), 1600, 1200)   # BGR, 8 bit
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

_FRUIT: tuple[Colour, ...] = ((40, 60, 200), (40, 140, 240), (60, 170, 90), (70, 210, 230))
_BAGS: tuple[Colour, ...] = ((40, 40, 40), (150, 60, 30), (60, 60, 170), (190, 190, 185))
_ROOFS: tuple[Colour, ...] = ((120, 125, 130), (95, 105, 150), (140, 140, 135), (110, 115, 118))


def street_stall(chance: np.random.Generator, width: int, height: int) -> Picture:
    """Draw a stall that takes up the pavement in front of a row of shops."""
    picture = _gradient(width, height, (235, 205, 170), (225, 220, 215))
    ground = int(height * 0.62)
    _shops(picture, chance, ground)
    _pavement(picture, ground, int(height * 0.86))
    cv2.rectangle(picture, (0, int(height * 0.86)), (width, height), (95, 92, 90), -1)
    cv2.line(picture, (0, int(height * 0.93)), (width, int(height * 0.93)), (215, 215, 215), 8)
    left, right = int(width * 0.28), int(width * 0.74)
    top, table = int(height * 0.36), int(height * 0.66)
    for x in (left + 20, right - 20):
        cv2.line(picture, (x, top), (x, int(height * 0.84)), (90, 90, 95), 10)
    stripe = (right - left) // 12
    for number in range(12):
        colour = (50, 50, 190) if number % 2 else (235, 235, 235)
        x = left + number * stripe
        roof = [[x, top], [x + stripe, top], [x + stripe + 14, top + 90], [x + 14, top + 90]]
        cv2.fillPoly(picture, [np.array(roof, np.int32)], colour)
    cv2.rectangle(picture, (left, table), (right, int(height * 0.8)), (70, 110, 150), -1)
    for number in range(6):
        _crate(picture, chance, left + 20 + number * (right - left - 40) // 6, table - 40)
    return picture


def rubbish_heap(chance: np.random.Generator, width: int, height: int) -> Picture:
    """Draw bags and boxes heaped against a wall."""
    picture = _gradient(width, height, (175, 180, 185), (150, 158, 165))
    ground = int(height * 0.58)
    for row, y in enumerate(range(0, ground, 40)):
        for x in range(-90 * (row % 2) // 2, width, 90):
            shade = int(chance.integers(-14, 14))
            brick = (105 + shade, 118 + shade, 150 + shade)
            cv2.rectangle(picture, (x + 2, y + 2), (x + 88, y + 38), brick, -1)
    _pavement(picture, ground, height)
    middle = width // 2
    for _ in range(70):
        spread = float(chance.normal(0, 0.13))
        x = int(middle + spread * width)
        y = int(height * 0.82 - max(0.0, 0.26 - abs(spread)) * height * chance.uniform(0.1, 1))
        if chance.random() < 0.3:
            _box(picture, chance, x, y)
        else:
            axes = (int(chance.integers(35, 80)), int(chance.integers(28, 60)))
            colour = _BAGS[int(chance.integers(len(_BAGS)))]
            angle = float(chance.uniform(0, 180))
            cv2.ellipse(picture, (x, y), axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
            shine = (min(255, colour[0] + 45), min(255, colour[1] + 45), min(255, colour[2] + 45))
            cv2.ellipse(
                picture, (x - 8, y - 10), (axes[0] // 2, axes[1] // 3), angle, 200, 320, shine, 3
            )
    return picture


def roofs_from_above(chance: np.random.Generator, width: int, height: int) -> Picture:
    """Draw a block from straight above, with a blue sheet-metal structure on one roof."""
    picture = _gradient(width, height, (95, 120, 105), (100, 125, 112))
    cv2.rectangle(picture, (0, int(height * 0.44)), (width, int(height * 0.56)), (88, 86, 85), -1)
    for x in range(0, width, 120):
        cv2.line(picture, (x, height // 2), (x + 60, height // 2), (225, 225, 225), 5)
    for row, top in enumerate((0.05, 0.6)):
        for column in range(4):
            x, y = int(width * (0.03 + column * 0.245)), int(height * top)
            w, h = int(width * 0.2), int(height * chance.uniform(0.28, 0.34))
            colour = _ROOFS[int(chance.integers(len(_ROOFS)))]
            cv2.rectangle(picture, (x + 14, y + 14), (x + w + 14, y + h + 14), (60, 70, 62), -1)
            cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
            cv2.rectangle(picture, (x, y), (x + w, y + h), (75, 78, 80), 4)
            for line in range(y + 24, y + h, 24):
                cv2.line(picture, (x + 6, line), (x + w - 6, line), (100, 104, 106), 1)
            if (row, column) == (0, 2):
                _sheet_metal(picture, x, y, w, h)
    for _ in range(26):
        centre = (int(chance.integers(width)), int(height * chance.choice((0.415, 0.585))))
        cv2.circle(picture, centre, int(chance.integers(14, 26)), (50, 95, 55), -1, cv2.LINE_AA)
    for number in range(7):
        x = number * width // 7 + int(chance.integers(width // 7 - 64))
        lane = float(chance.choice((0.465, 0.515)))
        y = int(height * lane)
        colour = _BAGS[int(chance.integers(len(_BAGS)))]
        cv2.rectangle(picture, (x, y), (x + 62, y + 28), colour, -1)
    return picture


def grain(picture: Picture, chance: np.random.Generator) -> Picture:
    """Soften a drawing and add the noise of a sensor."""
    soft = cv2.GaussianBlur(picture, (3, 3), 0).astype(np.float32)
    noisy = soft + chance.normal(0, 4.5, picture.shape).astype(np.float32)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _gradient(width: int, height: int, top: Colour, bottom: Colour) -> Picture:
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    column = np.array(top, np.float32) * (1 - share) + np.array(bottom, np.float32) * share
    return np.ascontiguousarray(np.broadcast_to(column, (height, width, 3)).astype(np.uint8))


def _shops(picture: Picture, chance: np.random.Generator, ground: int) -> None:
    """Draw a row of shop fronts with signs and windows."""
    width = picture.shape[1]
    for number in range(5):
        x = number * width // 5
        shade = int(chance.integers(150, 205))
        wall = (shade, shade - 8, shade - 20)
        cv2.rectangle(picture, (x, int(ground * 0.2)), (x + width // 5, ground), wall, -1)
        sign = (int(chance.integers(256)), int(chance.integers(120)), int(chance.integers(256)))
        sign_top, sign_end = int(ground * 0.52), int(ground * 0.62)
        cv2.rectangle(picture, (x + 15, sign_top), (x + width // 5 - 15, sign_end), sign, -1)
        window = (110, 95, 80)
        cv2.rectangle(
            picture, (x + 30, int(ground * 0.66)), (x + width // 5 - 30, ground), window, -1
        )
        for at in range(3):
            left = x + 30 + at * (width // 5 - 60) // 3
            upper = (left, int(ground * 0.28)), (left + 60, int(ground * 0.44))
            cv2.rectangle(picture, *upper, (130, 110, 95), -1)


def _pavement(picture: Picture, top: int, bottom: int) -> None:
    """Draw paving that recedes towards the back."""
    width = picture.shape[1]
    cv2.rectangle(picture, (0, top), (width, bottom), (165, 168, 172), -1)
    for step in range(12):
        y = top + int((bottom - top) * (step / 12) ** 1.6)
        cv2.line(picture, (0, y), (width, y), (140, 142, 146), 2)
    for x in range(-width, 2 * width, 110):
        far = width // 2 + (x - width // 2) // 2
        cv2.line(picture, (x, bottom), (far, top), (145, 147, 151), 2)


def _crate(picture: Picture, chance: np.random.Generator, x: int, y: int) -> None:
    """Draw a crate of fruit."""
    cv2.rectangle(picture, (x, y), (x + 105, y + 48), (60, 100, 140), -1)
    colour = _FRUIT[int(chance.integers(len(_FRUIT)))]
    for _ in range(16):
        centre = (x + int(chance.integers(12, 94)), y + int(chance.integers(-12, 14)))
        cv2.circle(picture, centre, 13, colour, -1, cv2.LINE_AA)
        cv2.circle(picture, centre, 13, (30, 40, 60), 1, cv2.LINE_AA)


def _box(picture: Picture, chance: np.random.Generator, x: int, y: int) -> None:
    """Draw a cardboard box lying at an angle."""
    size = (float(chance.integers(70, 130)), float(chance.integers(50, 90)))
    corners = cv2.boxPoints(((float(x), float(y)), size, float(chance.uniform(-30, 30))))
    outline = corners.astype(np.int32)
    cv2.fillPoly(picture, [outline], (95, 135, 170))
    cv2.polylines(picture, [outline], isClosed=True, color=(60, 90, 120), thickness=3)


def _sheet_metal(picture: Picture, x: int, y: int, width: int, height: int) -> None:
    """Draw the structure that an inspector would ask about."""
    left, top = x + width // 4, y + height // 5
    right, bottom = x + width, y + int(height * 0.75)
    cv2.rectangle(picture, (left + 10, top + 12), (right + 10, bottom + 12), (55, 60, 58), -1)
    cv2.rectangle(picture, (left, top), (right, bottom), (190, 120, 50), -1)
    for line in range(left, right, 12):
        cv2.line(picture, (line, top), (line, bottom), (165, 100, 40), 2)
