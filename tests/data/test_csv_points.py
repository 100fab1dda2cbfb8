from pathlib import Path

import numpy as np
import pytest

from pipeline.data.annotations import BOX, Layout, csv_points, formats
from tests.conftest import DATA

FACES = DATA / "pytorch_faces"
needs_faces = pytest.mark.skipif(not FACES.is_dir(), reason="needs pytorch_faces in shared/data")
NAN = [np.nan, np.nan]


def read(tmp_path: Path, text: str, num_points: int | None = None):
    path = tmp_path / "f.csv"
    path.write_text(text, encoding="utf-8")
    found, wrong = csv_points.parse(path, num_points)
    return found, [problem.replace(f"{tmp_path}/", "") for problem in wrong]


@pytest.mark.parametrize("text", [
    "image_name,part_0_x,part_0_y,part_1_x,part_1_y\na.jpg,1,2,3.5,-4\nb.jpg,5,6,,\n",
    "\ufeffimage_name,part_0_x,part_0_y,part_1_x,part_1_y\r\na.jpg,1,2,3.5,-4\r\n\r\nb.jpg,5,6,nan,NaN\r\n",
    "a.jpg,1,2,3.5,-4\nb.jpg,5,6,,\n",
    "who,c0,c1,c2,c3\n./a.jpg, 1,2 ,3.5,-4\nb.jpg,5,6,,",
    "photo,x0,y0,x1,y1\na.jpg,1,2,3.5,-4\nb.jpg,5,6,,\n",
    "Nose_Y,Chin_x,Nose_X,Chin_y,FileName\n2,3.5,1,-4,a.jpg\n6,,5,,b.jpg\n",
    '"image","x_0","x_1","y_0","y_1"\n"a.jpg","1","3.5","2","-4"\n"b.jpg",5,,6,\n',
], ids=["names", "windows", "bare", "turns", "prefix", "any order", "quotes"])
def test_csv_in_every_layout_gives_the_same_faces(tmp_path, text):
    found, wrong = read(tmp_path, text, 2)
    assert wrong == []
    assert found.faces.image.tolist() == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(found.keypoints, [[[1, 2], [3.5, -4]], [[5, 6], NAN]])
    assert found.faces[BOX].isna().all(axis=None)


def test_csv_without_a_header_may_miss_the_first_point(tmp_path):
    found, wrong = read(tmp_path, "a.jpg,,,3,4\n")
    assert wrong == []
    np.testing.assert_array_equal(found.keypoints, [[NAN, [3, 4]]])


def test_csv_with_boxes_reads_them_or_none(tmp_path):
    text = "image_name,width,top,left,height,p_x,p_y\na.jpg,30,2,1.5,40,9,9\nb.jpg,,,,,7,7\n"
    found, wrong = read(tmp_path, text)
    assert wrong == []
    np.testing.assert_array_equal(found.faces[BOX].to_numpy(), [[1.5, 2, 30, 40], [np.nan] * 4])


@pytest.mark.parametrize("text", ["image_name\na.jpg\nb.jpg\n", "a.jpg\nb.jpg\n",
                                  "image_name,left,top,width,height\na.jpg,1,2,3,4\nb.jpg,1,2,3,4\n"])
def test_csv_without_points_has_faces_to_predict(tmp_path, text):
    found, wrong = read(tmp_path, text, 68)
    assert wrong == [] and found.keypoints is None and found.faces.image.tolist() == ["a.jpg", "b.jpg"]


def test_csv_with_problems_names_file_line_and_face(tmp_path):
    text = (
        "image_name,left,top,width,height,nose_x,nose_y,chin_x,chin_y\n"
        "a.jpg,1,2,3,4,1,2,3,4\n"
        "b.jpg,1,2,3,4,1,2,3\n"
        "c.jpg,1,,3,4,1,x,3,1e99\n"
        "../d.jpg,1,2,3,4,inf,,3,4\n"
        "e.jpg,1,2,3,4,1,2,3,4,5\n"
    )
    found, wrong = read(tmp_path, text, 2)
    assert wrong == [
        "f.csv:3: face 1 (b.jpg): 8 fields, but the first row has 9",
        "f.csv:4: face 2 (c.jpg): box: '' is not a number of pixels",
        "f.csv:4: face 2 (c.jpg): nose: y='x' is not a number of pixels",
        "f.csv:4: face 2 (c.jpg): chin: y='1e99' is not a number of pixels",
        "f.csv:5: face 3 (../d.jpg): image path '../d.jpg' leaves the data folder; '..' is not allowed",
        "f.csv:5: face 3 (../d.jpg): nose: y is missing, the other is not",
        "f.csv:6: face 4 (e.jpg): 10 fields, but the first row has 9",
    ]
    assert found.faces.index.tolist() == [0] and found.keypoints.shape == (1, 2, 2)


@pytest.mark.parametrize(("text", "expected"), [
    ("image_name,a_x,b_x,b_y\n", ["f.csv:1: point 'a' has no column for its y"]),
    ("image_name,a_x,a_y,a_x\n", ["f.csv:1: column 'a_x' comes twice"]),
    ("image_name,a_x,a_y,age,pose_y\n", ["f.csv:1: point 'pose' has no column for its x"]),
    ("image_name,left,a_x,a_y\n", ["f.csv:1: columns left without top, width, height"]),
    ("image_name,c1,c2,c3\n", ["f.csv:1: 3 columns of points; as many x as y are expected"]),
    ("a.jpg,1,2,3\n", ["f.csv:1: 3 columns of points; as many x as y are expected"]),
    ("image_name,a_x,a_y\n", ["f.csv:1: has a header, but no faces"]),
    ("", ["f.csv: is empty; CSV is expected"]),
    ('a.jpg,1,2\nb.jpg,"1,2\n', ["f.csv:2: broken CSV (unexpected end of data)"]),
])
def test_csv_with_an_invalid_header_says_why(tmp_path, text, expected):
    assert read(tmp_path, text)[1] == expected


@pytest.mark.parametrize("text", ["a.jpg,1,2\nb.jpg,1,2", "image_name,a_x,a_y\na.jpg,1,2\r\nb.jpg,1,2.5",
                                  "a.jpg,1,2\nb.jpg,1,2."])
def test_csv_that_may_be_cut_in_its_last_number_is_a_problem(tmp_path, text):
    line = text.count("\n") + 1
    assert read(tmp_path, text)[1] == [
        f"f.csv:{line}: the last line has no line end: its number may be cut; write the file again"]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_csv_with_another_separator_is_read(tmp_path, mark):
    text = "image_name,left,top,width,height,a_x,a_y\na.jpg,1,2,3,4,1,2\nb.jpg,,,,,1,2.5\n"
    expected, _ = read(tmp_path, text)
    found, wrong = read(tmp_path, text.replace(",", mark))
    assert not wrong and found.faces.equals(expected.faces)
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)
    assert formats.recognise(tmp_path, "f.csv") == "csv_points"


@pytest.mark.parametrize("text", [
    ",image_name,a_x,a_y\n0,a.jpg,1,2\n1,b.jpg,3,4\n",  # pandas' index, and the names
    ",a_x,a_y\na.jpg,1,2\nb.jpg,3,4\n",  # the names are the index
    ",0,1\na.jpg,1,2\nb.jpg,3,4\n",  # and the columns have none
])
def test_csv_with_an_unnamed_first_column_is_read(tmp_path, text):
    found, wrong = read(tmp_path, text)
    assert not wrong and found.faces.image.tolist() == ["a.jpg", "b.jpg"]
    assert found.keypoints.tolist() == [[[1, 2]], [[3, 4]]]


def test_csv_with_other_columns_ignores_and_names_them(tmp_path):
    found, wrong = read(tmp_path, "age,file_name,a_x,a_y,pose\n31,a.jpg,1,2,left\n,b.jpg,3,4,\n")
    assert not wrong and found.faces.image.tolist() == ["a.jpg", "b.jpg"]
    assert found.keypoints.tolist() == [[[1, 2]], [[3, 4]]] and found.notes == {"columns ignored: age, pose": 2}
    found, wrong = read(tmp_path, "photo,x,y,w,h,age,shoe\na.jpg,1,2,3,4,31,42\n")  # these are no point
    assert not wrong and found.keypoints is None and found.notes == {"columns ignored: age, shoe": 2}
    many = ",".join(f"attribute {i}" for i in range(10))
    found, wrong = read(tmp_path, f"image,a_x,a_y,{many}\na.jpg,1,2{',0' * 10}\n")
    assert not wrong and list(found.notes.values()) == [10] and next(iter(found.notes)).endswith("attribute 7, …")


@pytest.mark.parametrize(("names", "values"), [
    ("left,top,width,height", "5,6,7,8"), ("x,y,w,h", "5,6,7,8"), ("x,y,width,height", "5,6,7,8"),
    ("left,top,right,bottom", "5,6,12,14"), ("xmin,ymin,xmax,ymax", "5,6,12,14")])
def test_csv_with_a_box_in_other_words_is_read(tmp_path, names, values):
    found, wrong = read(tmp_path, f"image_name,{names},a_x,a_y\na.jpg,{values},1,2\n")
    assert not wrong and found.faces[BOX].to_numpy().tolist() == [[5, 6, 7, 8]]


@pytest.mark.parametrize("space", ["\x1c", "\x1f", "\x85", "\u3000"])
def test_csv_with_a_space_that_is_none_in_a_number_is_a_problem(tmp_path, space):
    assert read(tmp_path, f"a.jpg,1,2{space}\n")[1] == [
        f"f.csv:1: face 0 (a.jpg): point 0: y={'2' + space!r} is not a number of pixels"]


def test_csv_with_another_number_of_points_is_one_problem(tmp_path):
    text = "image_name,a_x,a_y\na.jpg,1,2\nb.jpg,1,2\n"
    assert read(tmp_path, text, 68)[1] == [
        "f.csv:1: 1 points a face, but 68 are expected; choose the skeleton of this file"]


def test_csv_of_another_encoding_or_missing_says_so(tmp_path):
    (tmp_path / "f.csv").write_bytes("a.jpg,1,2\nä.jpg,1,2\n".encode("latin-1"))
    assert csv_points.parse(tmp_path / "f.csv")[1] == [
        f"{tmp_path}/f.csv:2: is not text in UTF-8; CSV is expected"]
    assert csv_points.parse(tmp_path / "g.csv")[1] == [
        f"{tmp_path}/g.csv: cannot be read (No such file or directory); check the path"]


@needs_faces
def test_read_of_real_csv_faces_is_right():
    found = formats.read(FACES, "face_landmarks.csv", Layout(num_points=68))
    assert found.keypoints.shape == (69, 68, 2) and np.isfinite(found.keypoints).all()
    assert found.boxes_made == 69
    assert found.faces.image.iloc[0] == "0805.jpg"
    assert found.keypoints[0, 0].tolist() == [27, 83]
