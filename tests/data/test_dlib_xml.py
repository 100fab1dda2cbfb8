from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX, Annotations, dlib_xml, tabulate

DATA = Path(__file__).parents[3] / "shared" / "data"
IBUG = DATA / "ibug_300w"
needs_ibug = pytest.mark.skipif(not IBUG.exists(), reason=f"needs {IBUG.name} in shared/data")
needs_dlib = pytest.mark.skipif(not (DATA / "dlib_faces").exists(), reason="needs dlib_faces in shared/data")

TWO_PHOTOS = """<?xml version='1.0' encoding='ISO-8859-1'?>
<dataset>
<images>
  <image file='a/ä.jpg'>
    <box top='1' left='2.5' width='30' height='40'>
      <part name='00' x='3' y='4'/>
      <part name='2' x='-5.25' y='6e1'/>
    </box>
    <box top='-7' left='8' width='9' height='10'/>
    <box top='-7' left='8' width='9' height='10' ignore='1'><part name='x'/></box>
  </image>
  <image file='./b.jpg'>
    <box top='11' left='12' width='13' height='14'><label>someone</label><part name='01' x='1' y='2'/></box>
  </image>
</images>
</dataset>
"""


def save(tmp_path: Path, text: str, encoding: str = "ISO-8859-1") -> Path:
    path = tmp_path / "labels.xml"
    path.write_text(text, encoding=encoding)
    return path


def problems(tmp_path: Path, text: str, num_points: int | None = None) -> list[str]:
    path = save(tmp_path, text)
    with pytest.raises(UserError) as caught:
        dlib_xml.read(path, num_points)
    return [problem.replace(str(path), "labels.xml") for problem in caught.value.problems]


def images(inside: str) -> str:
    return f"<dataset>\n<images>\n{inside}\n</images>\n</dataset>\n"


def test_read_of_several_images_and_missing_parts_is_exact(tmp_path):
    found = dlib_xml.read(save(tmp_path, TWO_PHOTOS), 4)
    assert list(found.faces.columns) == ["image", *BOX, "where"]
    assert found.faces.to_numpy().tolist() == [
        ["a/ä.jpg", 2.5, 1, 30, 40, f"{tmp_path}/labels.xml:5"], ["a/ä.jpg", 8, -7, 9, 10, f"{tmp_path}/labels.xml:9"],
        ["b.jpg", 12, 11, 13, 14, f"{tmp_path}/labels.xml:13"],
    ]
    assert found.keypoints.shape == (3, 4, 2) and found.keypoints.dtype == np.float32
    expected = np.full((3, 4, 2), np.nan)
    expected[0, 0], expected[0, 2], expected[2, 1] = (3, 4), (-5.25, 60), (1, 2)
    np.testing.assert_array_equal(found.keypoints, expected)


def test_read_without_a_number_of_points_takes_the_files(tmp_path):
    assert dlib_xml.read(save(tmp_path, TWO_PHOTOS)).keypoints.shape == (3, 3, 2)


def test_read_of_boxes_only_has_no_keypoints(tmp_path):
    path = save(tmp_path, images("<image file='a.jpg'><box top='1' left='2' width='3' height='4'/></image>"))
    assert dlib_xml.read(path, 68).keypoints is None


def test_read_with_many_problems_names_each_with_line_and_face(tmp_path):
    text = images("""<image file='a.jpg'>
<box top='1' left='x' height='nan'>
<part name='0' x='1' y='2'/>
<part name='0' x='1' y='2'/>
<part name='nose' x='1' y='2'/>
<part name='3' x='1' y='2'/>
<part name='1' x='1_0' y='inf'/>
<part x='1' y='2'/>
</box>
</image>
<image><box top='1' left='1' width='5' height='5'/></image>
<image file='b.jpg'>
<box top='1e99' left='1' width='5' height='5'><part name='2' x='1'/></box>
<part name='2' x='1' y='2'/>
</image>
<box top='1' left='1' width='5' height='5'/>""")
    assert problems(tmp_path, text, 3) == [
        "labels.xml:4: face 0 (a.jpg): left='x' is not a number of pixels",
        "labels.xml:4: face 0 (a.jpg): attribute 'width' is missing",
        "labels.xml:4: face 0 (a.jpg): height='nan' is not a number of pixels",
        "labels.xml:6: face 0 (a.jpg): part '0' comes twice",
        "labels.xml:7: face 0 (a.jpg): part 'nose' is unknown; names are the indices 0 to 2",
        "labels.xml:8: face 0 (a.jpg): part '3' is unknown; names are the indices 0 to 2",
        "labels.xml:9: face 0 (a.jpg): part '1': x='1_0' is not a number of pixels",
        "labels.xml:9: face 0 (a.jpg): part '1': y='inf' is not a number of pixels",
        "labels.xml:10: face 0 (a.jpg): <part> has no attribute 'name'",
        "labels.xml:13: <image> has no attribute 'file'",
        "labels.xml:15: face 2 (b.jpg): top='1e99' is not a number of pixels",
        "labels.xml:15: face 2 (b.jpg): part '2': attribute 'y' is missing",
        "labels.xml:16: <part> inside <image>; it belongs into <box>",
        "labels.xml:18: <box> inside <images>; it belongs into <image>",
    ]


def test_parse_with_a_problem_keeps_the_other_faces(tmp_path):
    box = "<box top='1' left='2' width='{}' height='4'/>"
    path = save(tmp_path, images(f"<image file='a.jpg'>{box.format('x')}{box.format(3)}</image>"))
    found, wrong = dlib_xml.parse(path)
    assert len(wrong) == 1 and found.faces.index.tolist() == [1]


@pytest.mark.parametrize("image", ["/etc/passwd", "../a.jpg", "a/../../b.jpg", "a\\b.jpg", "C:/a.jpg", "c:a.jpg", " "])
def test_read_of_a_path_outside_the_data_folder_is_refused(tmp_path, image):
    found = problems(tmp_path, images(f"<image file='{image}'><box top='1' left='1' width='5' height='5'/></image>"))
    assert len(found) == 1 and found[0].startswith("labels.xml:3: ") and "image path" in found[0]


@pytest.mark.parametrize("declaration", [
    "<!DOCTYPE dataset>",
    "<!DOCTYPE dataset SYSTEM 'http://127.0.0.1:9/x.dtd'>",
    "<!DOCTYPE dataset [<!ENTITY a SYSTEM 'file:///etc/hostname'>]>",
    "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;'>]>",
])
def test_read_with_a_doctype_is_refused(tmp_path, declaration):
    text = images("<image file='a.jpg'><name>&c;</name><box top='1' left='1' width='5' height='5'/></image>")
    assert problems(tmp_path, f"<?xml version='1.0'?>\n{declaration}\n{text}") == [
        "labels.xml:2: has a DOCTYPE, which is refused; remove it"]


@pytest.mark.parametrize(("text", "message"), [
    ("", "labels.xml: is empty; dlib XML is expected"),
    (" \n", "labels.xml: is empty; dlib XML is expected"),
    ("<dataset/>", "labels.xml: has no faces; <images><image file=…><box …/> is expected"),
    ("<dataset>\n<images>\n</dataset>", "labels.xml:3: broken XML (mismatched tag, column 3)"),
    ("<dataset>\n&a;</dataset>", "labels.xml:2: broken XML (undefined entity, column 1)"),
    ("face,x,y\n", "labels.xml:1: broken XML (syntax error, column 1)"),
])
def test_read_of_another_file_says_why(tmp_path, text, message):
    assert problems(tmp_path, text) == [message]


def test_read_of_broken_xml_keeps_earlier_problems(tmp_path):
    text = "<dataset><images>\n<image file='a'>\n<box top='x' left='1' width='1' height='1'/>\n</b>"
    found = problems(tmp_path, text)
    assert [problem.split(":")[1] for problem in found] == ["3", "4"]


def test_read_of_an_unknown_encoding_or_missing_file_says_so(tmp_path):
    assert "encoding" in problems(tmp_path, "<?xml version='1.0' encoding='klingon'?><dataset/>")[0]
    with pytest.raises(UserError, match="cannot be read"):
        dlib_xml.read(tmp_path / "none.xml")


def test_read_beyond_16_bits_of_lines_has_right_line_numbers(tmp_path):
    filler = "<comment>\n</comment>\n" * 40_000
    text = f"<dataset>\n{filler}<images>\n<image file='a.jpg'>\n<box top='x' left='1' width='1' height='1'/>"
    assert problems(tmp_path, text + "</image></images></dataset>")[0].startswith("labels.xml:80004: ")


def test_write_then_read_is_exact(tmp_path):
    rng = np.random.default_rng(0)
    names = ["a&'b.jpg", "a&'b.jpg", "ü/c.jpg"]
    faces = pd.DataFrame({"image": names, **{name: rng.normal(100, 50, 3) for name in BOX}})
    keypoints = rng.normal(100, 50, (3, 5, 2)).astype(np.float32)
    keypoints[1, 2] = np.nan
    keypoints[2] = np.nan
    path = tmp_path / "written.xml"
    dlib_xml.write(path, Annotations(faces=faces, keypoints=keypoints), "two < three")
    found = dlib_xml.read(path, 5)
    pd.testing.assert_frame_equal(found.faces[faces.columns], faces.astype({"image": found.faces.image.dtype}))
    np.testing.assert_array_equal(found.keypoints, keypoints)
    assert path.read_text(encoding="utf-8").count("<image ") == 2


def test_write_with_sizes_and_decimals_is_the_golden_file(tmp_path):
    faces = tabulate([(0, "a/'b.jpg", 1, -2, 30, 40.5, ""), (1, "c.jpg", 5, 6, 7, 8, "")],
                     [[[1.005, 2], [-0.004, 3.14159]], [[np.nan, np.nan], [7, 8]]])
    path = tmp_path / "written.xml"
    dlib_xml.write(path, faces, "two", sizes={"a/'b.jpg": (100, 50), "c.jpg": (9, 8)}, decimals=2)
    assert path.read_text().splitlines()[2:] == [
        "<name>two</name>", "<images>",
        "  <image file='a/&apos;b.jpg' width='100' height='50'>",
        "    <box top='-2' left='1' width='30' height='40.5'>",
        "      <part name='00' x='1.00' y='2.00'/>", "      <part name='01' x='-0.00' y='3.14'/>",
        "    </box>", "  </image>",
        "  <image file='c.jpg' width='9' height='8'>",
        "    <box top='6' left='5' width='7' height='8'>", "      <part name='01' x='7.00' y='8.00'/>",
        "    </box>", "  </image>", "</images>", "</dataset>"]
    dlib_xml.write(path, replace(faces, keypoints=None))
    assert "    <box top='6' left='5' width='7' height='8'/>" in path.read_text().splitlines()


@needs_ibug
def test_read_of_the_real_train_file_is_right():
    found = dlib_xml.read(IBUG / "labels_ibug_300W_train.xml", 68)
    assert found.keypoints.shape == (2208, 68, 2) and np.isfinite(found.keypoints).all()
    assert found.faces.image.iloc[0] == "helen/trainset/105538305_1.jpg"
    assert found.faces[BOX].iloc[0].tolist() == [71, 72, 139, 139]
    assert found.keypoints[0, 1].tolist() == [79, 122]
    assert found.faces["where"].iloc[-1].endswith("train.xml:158911")
    assert found.keypoints[-1, 67].tolist() == [309, 286]


@needs_ibug
def test_read_of_the_real_test_file_is_right():
    found = dlib_xml.read(IBUG / "labels_ibug_300W_test_parsed.xml", 68)
    assert len(found) == 716 and found.keypoints is None
    assert found.faces.image.str.contains("_mirror").sum() == 358


@needs_dlib
@pytest.mark.parametrize(("name", "photos", "num_faces"), [("training", 4, 18), ("testing", 5, 25)])
def test_read_of_several_boxes_an_image_keeps_all(name, photos, num_faces):
    folder = DATA / "dlib_faces" / "examples" / "faces"
    found = dlib_xml.read(folder / f"{name}_with_face_landmarks.xml", 68)
    assert (found.faces.image.nunique(), len(found)) == (photos, num_faces)
    assert found.keypoints.shape == (num_faces, 68, 2)
    boxes = dlib_xml.read(folder / f"{name}.xml", 68)
    assert boxes.keypoints is None
