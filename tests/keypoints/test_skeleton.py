"""Point sets: those with a name, and those of one's own."""

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.keypoints.skeleton import SKELETONS, get_skeleton, make_skeleton, segments

COUNTS = {"ibug68": 68, "imm58": 58, "wflw98": 98, "kaggle15": 15, "nose1": 1}


@pytest.mark.parametrize("name", COUNTS)
def test_skeleton_by_name_has_consistent_parts(name: str) -> None:
    assert list(SKELETONS) == list(COUNTS)
    skeleton = SKELETONS[name]
    points = list(range(COUNTS[name]))
    assert skeleton.name == name and skeleton.num_points == COUNTS[name]
    assert skeleton.flip[skeleton.flip].tolist() == points
    assert sorted(point for region in skeleton.regions.values() for point in region) == points
    assert {tuple(sorted(skeleton.flip[list(region)])) for region in skeleton.regions.values()} == {
        tuple(sorted(region)) for region in skeleton.regions.values()}  # a region is its own mirror image
    assert len(set(skeleton.names)) == COUNTS[name]
    assert skeleton.eyes is None or skeleton.flip[skeleton.eyes[0]] == skeleton.eyes[1] != skeleton.eyes[0]


@pytest.mark.parametrize("name", ["ibug68", "imm58", "wflw98"])
def test_skeleton_lines_when_mirrored_stay_the_same(name: str) -> None:
    """A pair in the wrong place would turn a line between neighbours into one across the face."""
    skeleton = SKELETONS[name]
    lines = {frozenset(segment) for segment in segments(skeleton)}
    assert {frozenset(skeleton.flip[list(line)].tolist()) for line in lines} == lines
    assert len(lines) > 40


def test_kaggle_names_of_each_pair_differ_in_left_and_right() -> None:
    skeleton = SKELETONS["kaggle15"]
    for point, partner in enumerate(skeleton.flip):
        swapped = skeleton.names[point].replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")
        assert skeleton.names[partner] == swapped
    assert skeleton.names[skeleton.eyes[1]] == "left_eye_outer_corner"


def test_make_skeleton_of_only_a_number_of_points_is_complete() -> None:
    plain = make_skeleton("custom", 3)
    assert plain.flip.tolist() == [0, 1, 2] and plain.eyes is None and plain.names == ("0", "1", "2")
    assert segments(plain) == [] and plain.regions == {}
    full = make_skeleton("custom", 3, [[0, 2]], eyes=[0, 2], edges=[[0, 1, 2]], regions={"all": [0, 1, 2]}, names="abc")
    assert full.flip.tolist() == [2, 1, 0] and full.eyes == (0, 2) and full.names == ("a", "b", "c")
    assert segments(full) == [(0, 1), (1, 2)] and full.regions == {"all": (0, 1, 2)}
    assert full.flip.dtype == np.int64


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pairs": [(0, 3)]}, "pairs: point 3 is not one of 0 to 2"),
        ({"pairs": [(0, -1)]}, "pairs: point -1 is not one of 0 to 2"),
        ({"pairs": [(1, 1)]}, "pairs: [1, 1] is not two different points"),
        ({"pairs": [(0, 1, 2)]}, "pairs: [0, 1, 2] is not two different points"),
        ({"pairs": [(0, 1), (1, 2)]}, "pairs: point 1 stands in more than one pair"),
        ({"pairs": [(0, 1), (1, 0)]}, "pairs: point 0 stands in more than one pair"),
        ({"eyes": (0, 0)}, "eyes: [0, 0] is not two different points"),
        ({"eyes": (0,)}, "eyes: [0] is not two different points"),
        ({"edges": [(0, 9)]}, "edges: point 9 is not one of 0 to 2"),
        ({"regions": {"nose": (7,)}}, "regions.nose: point 7 is not one of 0 to 2"),
        ({"regions": {"nose": (1, 1)}}, "regions.nose: point 1 stands there twice"),
        ({"names": ("a", "b")}, "names: 2 names, of them 2 different, for 3 points"),
        ({"names": ("a", "b", "b")}, "names: 3 names, of them 2 different, for 3 points"),
    ],
)
def test_make_skeleton_of_invalid_options_names_the_problem(options: dict, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        make_skeleton("custom", 3, **options)
    assert problem in caught.value.problems


def test_make_skeleton_with_several_problems_names_all() -> None:
    with pytest.raises(UserError) as caught:
        make_skeleton("custom", 3, [(0, 3), (1, 1)], eyes=(0, 0), names=("a",))
    assert len(caught.value.problems) == 4


def test_get_skeleton_of_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="ibug68, imm58, wflw98, kaggle15, nose1"):
        get_skeleton("ibug69")
